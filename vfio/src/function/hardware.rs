//! What a passthrough function needs of the device behind it. [`Device`] is the real one.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use devices::pci::{PciAddress, VectorBackend};
use tracing::warn;
use vfio_bindings::bindings::vfio::{
    VFIO_PCI_ERR_IRQ_INDEX, VFIO_PCI_INTX_IRQ_INDEX, VFIO_PCI_REQ_IRQ_INDEX,
};

use super::intx::IntxLine;
use crate::device::Device;
use crate::info::RegionInfo;
use crate::mapping::BarMapping;
use crate::notice::{Notice, Subject};
use crate::sysfs::Host;
use crate::vectors::{SetIrqs, Vectors};

/// A PCI function of the host, as VFIO has it, or a fake of one.
pub trait Hardware: Send + Sync {
    /// Where it is on the host.
    fn address(&self) -> PciAddress;
    /// Bytes of its configuration space.
    fn config_size(&self) -> u64;
    /// Reads configuration space; all ones where that fails.
    fn config_read(&self, offset: u16, data: &mut [u8]);
    /// Writes configuration space.
    fn config_write(&self, offset: u16, data: &[u8]);
    /// The region of a BAR, or of the expansion ROM as number 6. `None`: not implemented.
    fn bar(&self, index: u8) -> Option<&RegionInfo>;
    /// Reads a BAR; all ones where that fails.
    fn bar_read(&self, index: u8, offset: u64, data: &mut [u8]);
    /// Writes a BAR.
    fn bar_write(&self, index: u8, offset: u64, data: &[u8]);
    /// Maps parts of a BAR's region.
    fn map(&self, region: &RegionInfo, areas: &[Range<u64>]) -> io::Result<BarMapping>;
    /// How many vectors of an interrupt type (`VFIO_PCI_MSI_IRQ_INDEX`, `VFIO_PCI_MSIX_IRQ_INDEX`) there are, and
    /// what wires them. `None`: there are none.
    fn vectors(self: Arc<Self>, index: u32) -> Option<(u32, Arc<dyn VectorBackend>)>;
    /// Its INTx. `None`: it has none, or none that works.
    fn intx(self: Arc<Self>) -> Option<Arc<dyn IntxLine>>;
    /// What the host has to say of it from now on.
    fn notices(self: Arc<Self>) -> Vec<Notice>;
    /// Resets it, if it can be.
    fn reset(&self) -> io::Result<()>;
}

impl Hardware for Device {
    fn address(&self) -> PciAddress {
        self.address()
    }

    fn config_size(&self) -> u64 {
        self.config_size()
    }

    fn config_read(&self, offset: u16, data: &mut [u8]) {
        self.config_read(offset.into(), data);
    }

    fn config_write(&self, offset: u16, data: &[u8]) {
        self.config_write(offset.into(), data);
    }

    fn bar(&self, index: u8) -> Option<&RegionInfo> {
        self.bar(index)
    }

    fn bar_read(&self, index: u8, offset: u64, data: &mut [u8]) {
        self.bar_read(index, offset, data);
    }

    fn bar_write(&self, index: u8, offset: u64, data: &[u8]) {
        self.bar_write(index, offset, data);
    }

    fn map(&self, region: &RegionInfo, areas: &[Range<u64>]) -> io::Result<BarMapping> {
        self.map(region, areas)
    }

    fn vectors(self: Arc<Self>, index: u32) -> Option<(u32, Arc<dyn VectorBackend>)> {
        let irqs = self.irqs(index)?;
        Some((irqs.count(), Arc::new(Vectors::new(irqs))))
    }

    fn intx(self: Arc<Self>) -> Option<Arc<dyn IntxLine>> {
        Some(Arc::new(self.irqs(VFIO_PCI_INTX_IRQ_INDEX)?))
    }

    fn notices(self: Arc<Self>) -> Vec<Notice> {
        let address = Device::address(&self);
        let errors = Host::default().uncorrectable_errors(address);
        let subjects = [
            (VFIO_PCI_ERR_IRQ_INDEX, Subject::Failure(errors), "fails"),
            (VFIO_PCI_REQ_IRQ_INDEX, Subject::Request, "is wanted back"),
        ];
        let wire = |(index, subject, what)| {
            let notice = Notice::new(self.irqs(index)?, address, subject);
            notice
                .inspect_err(|error| warn!(%address, %error, "the host cannot say when the device {what}"))
                .ok()
        };
        subjects.into_iter().filter_map(wire).collect()
    }

    fn reset(&self) -> io::Result<()> {
        self.reset()
    }
}
