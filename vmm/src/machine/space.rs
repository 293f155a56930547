//! Device memory in the guest's address space: a KVM slot, so that the guest reaches it without an exit, and an
//! IOMMU map, so that the machine's other devices reach it (peer-to-peer DMA).

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use devices::pci::{AddressSpace, MappedArea};
use vfio::DmaSpace;

use crate::hypervisor::vm::Vm;

/// Maps device memory for the guest and its devices.
pub struct DeviceMemory {
    vm: Arc<Vm>,
    /// The devices' address space, if there are peers to reach each other.
    peers: Option<Arc<DmaSpace>>,
    /// GPAs of areas that peers can reach.
    reachable: Mutex<BTreeSet<u64>>,
}

impl DeviceMemory {
    /// For a machine whose devices share `peers`; `None` when it has no two of them.
    pub fn new(vm: Arc<Vm>, peers: Option<Arc<DmaSpace>>) -> Self {
        Self { vm, peers, reachable: Mutex::default() }
    }
}

impl AddressSpace for DeviceMemory {
    fn map(&self, gpa: u64, area: &MappedArea) -> io::Result<()> {
        self.vm.map(gpa, area)?;
        let Some(peers) = &self.peers else { return Ok(()) };
        match peers.map_mmio(gpa, area) {
            Ok(()) => {
                self.reachable.lock().unwrap_or_else(PoisonError::into_inner).insert(gpa);
            }
            Err(error) => tracing::warn!(
                %error,
                cause = %error.source,
                "other passed-through devices cannot reach this BAR by DMA (no peer-to-peer); all else works"
            ),
        }
        Ok(())
    }

    fn unmap(&self, gpa: u64, area: &MappedArea) -> io::Result<()> {
        let reachable = self.reachable.lock().unwrap_or_else(PoisonError::into_inner).remove(&gpa);
        if let (true, Some(peers)) = (reachable, &self.peers)
            && let Err(error) = peers.unmap_mmio(gpa, area)
        {
            tracing::warn!(%error, "a BAR stays in the IOMMU");
        }
        self.vm.unmap(gpa, area)
    }
}
