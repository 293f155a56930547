//! What a PCI function offers to the bus it sits on, and what the bus needs of the hypervisor.

use std::io;
use std::sync::Arc;

use super::intx::InterruptPin;
use crate::Action;
use crate::ioapic::Ioapic;

/// Which address space a BAR decodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BarSpace {
    /// Memory below 4 GiB (32-bit BAR).
    Memory32,
    /// Memory anywhere (64-bit BAR).
    Memory64,
    /// Port I/O.
    Io,
}

/// A BAR as its function decodes it at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BarWindow {
    /// BAR number, 0 to 5, or [`ROM_BAR`](super::rom::ROM_BAR).
    pub index: u8,
    /// Address space.
    pub space: BarSpace,
    /// Whether reads have no side effects, so that it may lie in a bridge's prefetchable window.
    pub prefetchable: bool,
    /// GPA or port of its first byte.
    pub address: u64,
    /// Bytes, a power of two.
    pub size: u64,
}

/// Host memory behind a part of a BAR, which the guest reaches without an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MappedArea {
    /// Offset in the BAR, page-aligned bytes.
    pub offset: u64,
    /// Bytes, page-aligned.
    pub size: u64,
    /// Host virtual address; valid as long as the function lives.
    pub hva: u64,
}

/// One PCI function, without BARs unless it says otherwise. Methods are called from vCPU threads, at any time, concurrently.
pub trait PciFunction: Send + Sync {
    /// Reads 1, 2 or 4 bytes of configuration space at `offset`, below 4096 and naturally aligned.
    fn config_read(&self, offset: u16, data: &mut [u8]);
    /// Writes 1, 2 or 4 bytes of configuration space, naturally aligned.
    fn config_write(&self, offset: u16, data: &[u8]) -> Action;
    /// Every implemented BAR with its size and the address it now holds, decoded or not.
    fn bars(&self) -> Vec<BarWindow> {
        Vec::new()
    }
    /// The BARs decoded now: implemented, and enabled in the command register.
    fn decoded(&self) -> Vec<BarWindow> {
        Vec::new()
    }
    /// Sets a BAR's address as firmware would, before the guest runs.
    fn place_bar(&self, _index: u8, _address: u64) {}
    /// The parts of a memory BAR that host memory backs. The same for the function's whole life.
    fn mapped_areas(&self, _bar: u8) -> Vec<MappedArea> {
        Vec::new()
    }
    /// A BAR can be accessed at this address from now on, or nowhere (`None`). Called with the bus's locks held: the
    /// function must not access the bus.
    fn bar_mapped(&self, _bar: u8, _gpa: Option<u64>) {}
    /// A trapped read inside a BAR.
    fn bar_read(&self, _bar: u8, _offset: u64, data: &mut [u8]) {
        data.fill(0xff);
    }
    /// A trapped write inside a BAR.
    fn bar_write(&self, _bar: u8, _offset: u64, _data: &[u8]) -> Action {
        Action::None
    }
    /// The interrupt pin it has, if it has one.
    fn interrupt_pin(&self) -> Option<InterruptPin> {
        None
    }
    /// Gives a function with an interrupt pin the I/O APIC pin it leads to, before the guest runs. Lasts until the
    /// function is reset.
    fn connect_interrupt(&self, ioapic: &Arc<Ioapic>, pin: u8) {
        let _ = (ioapic, pin);
    }
    /// The bus it is on was reset, or its slot lost its power or its link: back to the state after power-on, with BARs
    /// unplaced and no more DMA. Called with nothing of it decoded, and may take long.
    fn bus_reset(&self) {}
}

/// The guest's physical address space as the hypervisor (and the IOMMU, for peer-to-peer DMA) has it.
pub trait AddressSpace: Send + Sync {
    /// Backs `gpa..gpa + area.size` with `area`.
    fn map(&self, gpa: u64, area: &MappedArea) -> io::Result<()>;
    /// Takes that back. Nothing refers to the area when this returns.
    fn unmap(&self, gpa: u64, area: &MappedArea) -> io::Result<()>;
}
