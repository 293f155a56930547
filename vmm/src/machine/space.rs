//! Device memory in the guest's address space: a KVM slot, so that the guest reaches it without an exit, and an
//! IOMMU map, so that the machine's other devices reach it (peer-to-peer DMA).

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use devices::pci::{AddressSpace, MappedArea};
use vfio::DmaSpace;

use crate::hypervisor::vm::Vm;

/// Maps device memory for the guest and its devices.
pub struct DeviceMemory {
    vm: Arc<Vm>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The devices' address space, if there are peers to reach each other.
    peers: Option<Arc<DmaSpace>>,
    /// What is mapped for the guest, by its GPA.
    mapped: BTreeMap<u64, Mapped>,
}

struct Mapped {
    area: MappedArea,
    /// Whether peers can reach it.
    reachable: bool,
}

impl DeviceMemory {
    /// Nothing mapped, and no peers.
    pub fn new(vm: Arc<Vm>) -> Self {
        Self { vm, state: Mutex::default() }
    }

    /// From now on the machine's devices share `peers`; `None` while it has no two of them. What is mapped for the guest
    /// follows.
    pub fn set_peers(&self, peers: Option<Arc<DmaSpace>>) {
        let mut state = self.state();
        let State { peers: before, mapped } = &mut *state;
        if before.as_ref().map(Arc::as_ptr) == peers.as_ref().map(Arc::as_ptr) {
            return;
        }
        for (gpa, it) in mapped {
            if let (true, Some(before)) = (it.reachable, before.as_deref()) {
                hide(before, *gpa, &it.area);
            }
            it.reachable = peers.as_deref().is_some_and(|peers| show(peers, *gpa, &it.area));
        }
        *before = peers;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AddressSpace for DeviceMemory {
    fn map(&self, gpa: u64, area: &MappedArea) -> io::Result<()> {
        let mut state = self.state();
        self.vm.map(gpa, area)?;
        let reachable = state.peers.as_ref().is_some_and(|peers| show(peers, gpa, area));
        state.mapped.insert(gpa, Mapped { area: *area, reachable });
        Ok(())
    }

    fn unmap(&self, gpa: u64, area: &MappedArea) -> io::Result<()> {
        let mut state = self.state();
        let mapped = state.mapped.remove(&gpa);
        if let (Some(Mapped { reachable: true, .. }), Some(peers)) = (mapped, &state.peers) {
            hide(peers, gpa, area);
        }
        self.vm.unmap(gpa, area)
    }
}

fn show(peers: &DmaSpace, gpa: u64, area: &MappedArea) -> bool {
    let shown = peers.map_mmio(gpa, area);
    if let Err(error) = &shown {
        tracing::warn!(
            %error,
            cause = %error.source,
            "other passed-through devices cannot reach this BAR by DMA (no peer-to-peer); all else works"
        );
    }
    shown.is_ok()
}

fn hide(peers: &DmaSpace, gpa: u64, area: &MappedArea) {
    if let Err(error) = peers.unmap_mmio(gpa, area) {
        tracing::warn!(%error, "a BAR stays in the IOMMU");
    }
}
