//! An open VFIO PCI device: its regions, its interrupts and its reset (Documentation/driver-api/vfio.rst).
//!
//! vfio-pci resets a device when it is opened and again when it is closed (`vfio_pci_core_enable`,
//! `vfio_pci_core_disable`), and reports `VFIO_DEVICE_FLAGS_RESET` only if the first of these worked. So a guest gets
//! a fresh device and leaves none of its state behind without a reset of ours, each of which takes 100 ms or more. What
//! is done where it did not work is in [`crate::reset`].

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use devices::pci::PciAddress;
use tracing::debug;
use vfio_bindings::bindings::vfio::{
    VFIO_DEVICE_FLAGS_PCI, VFIO_DEVICE_FLAGS_RESET, VFIO_IRQ_INFO_EVENTFD, VFIO_IRQ_INFO_NORESIZE,
    VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_ACTION_UNMASK, VFIO_IRQ_SET_DATA_EVENTFD,
    VFIO_IRQ_SET_DATA_NONE, VFIO_PCI_CONFIG_REGION_INDEX, VFIO_PCI_NUM_REGIONS,
};
use vmm_sys_util::eventfd::EventFd;

use crate::dma::DmaSpace;
use crate::function::IntxLine;
use crate::info::RegionInfo;
use crate::ioas::Attachment;
use crate::kvm::KvmMember;
use crate::mapping::BarMapping;
use crate::mark;
use crate::session::OpenError;
use crate::sys;
use crate::sysfs::Host;
use crate::vectors::SetIrqs;

/// A device's file, through which it is opened and attached.
pub(crate) struct Handle {
    /// Unless its group is attached.
    pub(crate) attachment: Option<Attachment>,
    /// Unless KVM knows its group.
    pub(crate) member: Option<KvmMember>,
    /// What ioctls go to.
    pub(crate) file: Arc<File>,
}

/// An open device. Holds its address space, which therefore outlives it.
pub(crate) struct Device {
    // Detached before it is closed, and closed before its address space goes.
    _attachment: Option<Attachment>,
    _member: Option<KvmMember>,
    file: Arc<File>,
    address: PciAddress,
    resets: bool,
    regions: Vec<Option<RegionInfo>>,
    config: RegionInfo,
    space: Arc<DmaSpace>,
}

impl Device {
    /// Describes the device at `address`, which is open and attached to `space`.
    pub(crate) fn new(handle: Handle, address: PciAddress, space: &Arc<DmaSpace>) -> Result<Self, OpenError> {
        let failed = |call| move |source| OpenError::Device { address, call, source };
        mark::keep();
        let Handle { attachment, member, file } = handle;
        let info = sys::device_info(&file).map_err(failed("VFIO_DEVICE_GET_INFO"))?;
        if info.flags & VFIO_DEVICE_FLAGS_PCI == 0 {
            return Err(OpenError::NotPci(address));
        }
        // By index: a region that cannot be described, as VGA mostly, does not move the others.
        let region = |index| match sys::region_info(&file, index) {
            Ok(answer) => RegionInfo::parse(&answer),
            Err(error) => {
                debug!(%address, index, %error, "no such VFIO region");
                None
            }
        };
        let regions: Vec<_> = (0..VFIO_PCI_NUM_REGIONS.min(info.num_regions)).map(region).collect();
        let config = regions.get(VFIO_PCI_CONFIG_REGION_INDEX as usize).cloned().flatten();
        let config = config.ok_or(OpenError::NoConfig(address))?;
        let resets = info.flags & VFIO_DEVICE_FLAGS_RESET != 0;
        let space = Arc::clone(space);
        Ok(Self { _attachment: attachment, _member: member, file, address, resets, regions, config, space })
    }

    /// Where it is on the host.
    pub(crate) fn address(&self) -> PciAddress {
        self.address
    }

    /// What ioctls go to.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Its address space.
    pub(crate) fn space(&self) -> &DmaSpace {
        &self.space
    }

    /// Whether it can be reset by itself, and was when it was opened.
    pub(crate) fn resets_alone(&self) -> bool {
        self.resets
    }

    /// Maps parts of a BAR's region.
    pub(crate) fn map(&self, region: &RegionInfo, areas: &[Range<u64>]) -> io::Result<BarMapping> {
        let mapping = BarMapping::new(&self.file, region, areas)?;
        if let Some(index) = self.regions.iter().position(|it| it.as_ref() == Some(region)) {
            self.space.know_mmio(&self.file, index as u32, mapping.areas());
        }
        Ok(mapping)
    }

    /// The region of a BAR, or of the expansion ROM as number 6. `None`: not implemented.
    pub(crate) fn bar(&self, index: u8) -> Option<&RegionInfo> {
        self.regions.get(usize::from(index).min(6)).into_iter().flatten().find(|region| region.size != 0)
    }

    /// Configuration space: how many bytes of it there are.
    pub(crate) fn config_size(&self) -> u64 {
        self.config.size
    }

    /// Reads configuration space; all ones where that fails.
    pub(crate) fn config_read(&self, offset: u64, data: &mut [u8]) {
        self.read(&self.config, "configuration space", offset, data);
    }

    /// Writes configuration space. What fails is logged and lost, as on a bus.
    pub(crate) fn config_write(&self, offset: u64, data: &[u8]) {
        self.write(&self.config, "configuration space", offset, data);
    }

    /// Reads a BAR; all ones where that fails.
    pub(crate) fn bar_read(&self, index: u8, offset: u64, data: &mut [u8]) {
        match self.bar(index) {
            Some(region) => self.read(region, "BAR", offset, data),
            None => data.fill(0xff),
        }
    }

    /// Writes a BAR. What fails is logged and lost, as on a bus.
    pub(crate) fn bar_write(&self, index: u8, offset: u64, data: &[u8]) {
        if let Some(region) = self.bar(index) {
            self.write(region, "BAR", offset, data);
        }
    }

    /// The interrupts of a type, `VFIO_PCI_*_IRQ_INDEX`. `None`: it has none.
    pub(crate) fn irqs(self: &Arc<Self>, index: u32) -> Option<DeviceIrqs> {
        let info = sys::irq_info(&self.file, index).ok()?;
        let usable = info.count != 0 && info.flags & VFIO_IRQ_INFO_EVENTFD != 0;
        usable.then(|| DeviceIrqs {
            device: Arc::clone(self),
            index,
            count: info.count,
            resizable: info.flags & VFIO_IRQ_INFO_NORESIZE == 0,
        })
    }

    /// Resets the function by itself. Does nothing, without error, where that cannot be done: it is reset with its bus
    /// then ([`crate::reset`]), or it was said when it was opened that it is not.
    pub(crate) fn reset(&self) -> io::Result<()> {
        if !self.resets {
            return Ok(());
        }
        let done = sys::device_reset(&self.file);
        Host::default().set_mark(self.address, done.as_ref().err().map(|_| "its last reset failed"));
        done
    }

    fn read(&self, region: &RegionInfo, what: &str, offset: u64, data: &mut [u8]) {
        let result = place(region, offset, data.len()).and_then(|at| self.file.read_exact_at(data, at));
        if let Err(error) = result {
            debug!(address = %self.address, what, offset, bytes = data.len(), %error, "device read failed");
            data.fill(0xff);
        }
    }

    fn write(&self, region: &RegionInfo, what: &str, offset: u64, data: &[u8]) {
        let result = place(region, offset, data.len()).and_then(|at| self.file.write_all_at(data, at));
        if let Err(error) = result {
            debug!(address = %self.address, what, offset, bytes = data.len(), %error, "device write failed");
        }
    }
}

/// Where in the device's file an access lies that has to stay inside its region.
fn place(region: &RegionInfo, offset: u64, length: usize) -> io::Result<u64> {
    let end = offset.checked_add(length as u64).filter(|end| *end <= region.size);
    end.and_then(|_| region.offset.checked_add(offset)).ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

/// The interrupts of one type of a device.
pub(crate) struct DeviceIrqs {
    device: Arc<Device>,
    index: u32,
    count: u32,
    resizable: bool,
}

impl SetIrqs for DeviceIrqs {
    fn count(&self) -> u32 {
        self.count
    }

    fn resizable(&self) -> bool {
        self.resizable
    }

    fn set(&self, start: u32, triggers: &[RawFd]) -> io::Result<()> {
        let flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
        sys::set_irqs(&self.device.file, flags, self.index, start, triggers.len() as u32, triggers)
    }

    fn disable(&self) -> io::Result<()> {
        let flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER;
        sys::set_irqs(&self.device.file, flags, self.index, 0, 0, &[])
    }

    fn owner(&self) -> String {
        self.device.address.to_string()
    }
}

impl IntxLine for DeviceIrqs {
    fn connect(&self, trigger: &EventFd) -> io::Result<()> {
        self.set(0, &[trigger.as_raw_fd()])
    }

    fn disconnect(&self) -> io::Result<()> {
        self.disable()
    }

    fn unmask(&self) -> io::Result<()> {
        let flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK;
        sys::set_irqs(&self.device.file, flags, self.index, 0, 1, &[])
    }
}
