//! What is open of the host, and what of it the guest confines.

use std::sync::Arc;

use devices::irq::InterruptController;
use devices::pci::PciAddress;
use devices::virtio::iommu::Space;
use kvm_ioctls::DeviceFd;
use memory::pin::DmaMapper;
use vfio::{DmaSpace, OpenError, Passthrough, PassthroughFunction};

use super::Devices;
use crate::hypervisor::vm::Vm;
use crate::machine::control::DevicePlace;
use crate::problem::{Problems, Unexpected};

/// What is open of the host.
pub struct Session {
    /// KVM's side, of which a machine has one.
    pub link: Option<Arc<DeviceFd>>,
    /// The devices that are open, if any are, and reach all of the guest's memory.
    pub passthrough: Option<Passthrough>,
    /// Those that reach what the guest says, by their IOMMU groups. They neither come nor go.
    pub confined: Vec<Passthrough>,
}

/// Devices that the guest confines.
pub struct Confined {
    /// Where the guest has them, each with the number of its address space.
    pub endpoints: Vec<(PciAddress, usize)>,
    /// What can be mapped in each of those.
    pub spaces: Vec<Space>,
    /// The spaces themselves.
    pub reached: Vec<Arc<DmaSpace>>,
}

impl Session {
    pub(super) fn all(&self) -> impl Iterator<Item = &Passthrough> {
        self.passthrough.iter().chain(&self.confined)
    }

    pub(super) fn function(
        &self,
        host: PciAddress,
        controller: &Arc<dyn InterruptController>,
    ) -> Result<Arc<PassthroughFunction>, OpenError> {
        let of = self.all().find(|it| it.has(host)).ok_or(OpenError::NotPci(host))?;
        of.function(host, controller)
    }

    pub(super) fn link(&mut self, vm: &Vm) -> Result<Arc<DeviceFd>, Problems> {
        match &self.link {
            Some(link) => Ok(link.clone()),
            None => {
                let link = vm.vfio_link().map_err(Unexpected::during("cannot link the machine to VFIO"))?;
                Ok(self.link.insert(Arc::new(link)).clone())
            }
        }
    }
}

impl Devices {
    /// Those that the guest confines, if there are any.
    pub fn confined(&self) -> Option<Confined> {
        let session = self.session();
        let groups = &session.confined;
        let endpoint =
            |DevicePlace { host, guest }| Some((guest, groups.iter().position(|it| it.has(host))?));
        let space = |it: &Passthrough| Space::new(&it.aperture().ranges, it.space().room());
        (!groups.is_empty()).then(|| Confined {
            endpoints: self.list().into_iter().filter_map(endpoint).collect(),
            spaces: groups.iter().map(space).collect(),
            reached: groups.iter().map(|it| it.space().clone()).collect(),
        })
    }
}
