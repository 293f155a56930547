//! The MSI and MSI-X capabilities of a passed-through device: registers, table and pending bits are ours, the vectors
//! behind them are the device's.

use std::ops::Range;
use std::sync::Arc;

use devices::irq::InterruptController;
use devices::pci::msi::CONTROL_ENABLE as MSI_ENABLE;
use devices::pci::msix::{CONTROL_ENABLE as MSIX_ENABLE, CONTROL_WRITABLE, ENTRY_SIZE, MAX_VECTORS};
use devices::pci::{Msi, MsiShape, Msix};
use tracing::warn;
use vfio_bindings::bindings::vfio::{VFIO_PCI_MSI_IRQ_INDEX, VFIO_PCI_MSIX_IRQ_INDEX};

use super::capability::{self, Capability, Policy, dword, word};
use super::hardware::Hardware;
use super::quirks::Quirk;
use super::space::Space;
use super::touches;

/// Control word, from the start of the MSI capability.
const MSI_CONTROL: u16 = 2;
/// Control word, table and pending bit array, from the start of the MSI-X capability.
const MSIX_CONTROL: u16 = 2;
const MSIX_TABLE: u16 = 4;
const MSIX_PBA: u16 = 8;
const MSIX_SIZE: u16 = 12;
/// Bits of the table's and the array's register that name the BAR.
const BAR_MASK: u32 = 7;

/// The message-signalled interrupts of one function.
pub(crate) struct Interrupts {
    msi: Option<(Capability, Msi)>,
    msix: Option<MsixPlace>,
}

struct MsixPlace {
    capability: Capability,
    /// The capability from its control word on.
    body: Vec<u8>,
    msix: Msix,
    table: BarRange,
    pba: BarRange,
}

/// A part of a BAR.
struct BarRange {
    bar: u8,
    range: Range<u64>,
}

impl Interrupts {
    /// Takes over the capabilities among `capabilities` that deliver interrupts. Those that cannot become hidden.
    pub(crate) fn new(
        device: &Arc<dyn Hardware>,
        config: &[u8],
        capabilities: &mut [Capability],
        quirks: &[Quirk],
        controller: &Arc<dyn InterruptController>,
    ) -> Self {
        let mut interrupts = Self { msi: None, msix: None };
        for capability in capabilities {
            let taken = match capability.id {
                capability::MSI if interrupts.msi.is_none() => {
                    interrupts.msi = take_msi(device, config, capability, controller);
                    interrupts.msi.is_some()
                }
                capability::MSIX if interrupts.msix.is_none() => {
                    interrupts.msix = take_msix(device, config, capability, quirks, controller);
                    interrupts.msix.is_some()
                }
                _ => capability.policy != Policy::Emulated,
            };
            if !taken {
                let (address, id) = (device.address(), capability.id);
                warn!(%address, "capability {id:#04x} is broken, or VFIO cannot deliver its interrupts: it stays hidden");
                capability.policy = Policy::Hidden("its interrupts cannot be delivered");
            }
        }
        interrupts
    }

    /// Puts the registers into configuration space.
    pub(crate) fn lay(&self, space: &mut Space) {
        if let Some((capability, msi)) = &self.msi {
            space.lay_body(capability, &msi.shape().capability(), &msi.shape().writable());
        }
        if let Some(MsixPlace { capability, body, .. }) = &self.msix {
            let control = CONTROL_WRITABLE.to_le_bytes();
            let writable: Vec<u8> = control.into_iter().chain([0; 8]).collect();
            space.lay_body(capability, body, &writable);
        }
    }

    /// The parts of a BAR that are ours.
    pub(crate) fn trapped(&self, bar: u8) -> Vec<Range<u64>> {
        let places = self.msix.iter().flat_map(|place| [&place.table, &place.pba]);
        places.filter(|place| place.bar == bar).map(|place| place.range.clone()).collect()
    }

    /// Lays over a read of configuration space what changes by itself: pending bits.
    pub(crate) fn config_read(&self, offset: u16, data: &mut [u8]) {
        let Some((capability, msi)) = &self.msi else { return };
        let Some(pending) = msi.shape().pending_offset() else { return };
        let start = capability.offset + pending;
        if !touches(offset, data.len(), start..start + 4) {
            return;
        }
        for (at, value) in (start..).zip(msi.pending().to_le_bytes()) {
            let place = at.checked_sub(offset).and_then(|at| data.get_mut(usize::from(at)));
            if let Some(byte) = place {
                *byte = value;
            }
        }
    }

    /// Acts on a write of `length` bytes at `offset` that configuration space now holds.
    pub(crate) fn config_written(&self, offset: u16, length: usize, space: &Space) {
        if let Some((capability, msi)) = &self.msi {
            let (start, size) = (capability.offset + 2, msi.shape().size() - 2);
            if touches(offset, length, start..start + size) {
                msi.update(&space.values(start, size));
            }
        }
        if let Some(MsixPlace { capability, msix, .. }) = &self.msix {
            let control = capability.offset + MSIX_CONTROL;
            if touches(offset, length, control..control + 2) {
                msix.set_control(word(&space.values(control, 2), 0));
            }
        }
    }

    /// Whether the guest has MSI or MSI-X on.
    pub(crate) fn enabled(&self, space: &Space) -> bool {
        let msi = self.msi.as_ref().map(|(capability, _)| (capability.offset + MSI_CONTROL, MSI_ENABLE));
        let msix = self.msix.as_ref().map(|place| (place.capability.offset + MSIX_CONTROL, MSIX_ENABLE));
        msi.into_iter().chain(msix).any(|(control, bit)| word(&space.values(control, 2), 0) & bit != 0)
    }

    /// Reads the table or the pending bits of `device`. False: the access is not for them.
    pub(crate) fn bar_read(&self, device: &dyn Hardware, bar: u8, offset: u64, data: &mut [u8]) -> bool {
        let Some(place) = &self.msix else { return false };
        let length = data.len();
        if let Some(within) = place.table.within(bar, offset, length) {
            place.msix.table_read(within, data);
        } else if let Some(within) = place.pba.within(bar, offset, length) {
            // A vector that the guest never unmasked is masked in the device, which keeps its pending bit.
            device.bar_read(bar, offset, data);
            place.msix.pba_read(within, data);
        } else {
            return false;
        }
        true
    }

    /// Writes the table; pending bits are read-only. False: the access is not for them.
    pub(crate) fn bar_write(&self, bar: u8, offset: u64, data: &[u8]) -> bool {
        let Some(place) = &self.msix else { return false };
        if let Some(offset) = place.table.within(bar, offset, data.len()) {
            place.msix.table_write(offset, data);
            return true;
        }
        place.pba.within(bar, offset, data.len()).is_some()
    }

    /// Off, and disconnected from the device.
    pub(crate) fn reset(&self) {
        if let Some((_, msi)) = &self.msi {
            msi.reset();
        }
        if let Some(place) = &self.msix {
            place.msix.reset();
        }
    }
}

impl BarRange {
    /// A structure of `size` bytes at the place that a register of the capability names, if the BAR holds it.
    fn new(device: &dyn Hardware, register: u32, size: u64) -> Option<Self> {
        let bar = (register & BAR_MASK) as u8;
        let start = u64::from(register & !BAR_MASK);
        let range = start..start + size;
        device.bar(bar).filter(|region| range.end <= region.size).map(|_| Self { bar, range })
    }

    /// Where in it an access to a BAR lies, if that lies wholly inside.
    fn within(&self, bar: u8, offset: u64, length: usize) -> Option<u64> {
        let end = offset.checked_add(length as u64)?;
        let inside = bar == self.bar && offset >= self.range.start && end <= self.range.end;
        inside.then(|| offset - self.range.start)
    }
}

fn take_msi(
    device: &Arc<dyn Hardware>,
    config: &[u8],
    capability: &Capability,
    controller: &Arc<dyn InterruptController>,
) -> Option<(Capability, Msi)> {
    let shape = MsiShape::from_control(word(config, capability.offset + 2));
    let (count, backend) = device.clone().vectors(VFIO_PCI_MSI_IRQ_INDEX)?;
    let fits = shape.size() <= capability.size && u32::from(shape.count()) <= count;
    fits.then(|| (*capability, Msi::new(shape, controller.clone(), backend)))
}

fn take_msix(
    device: &Arc<dyn Hardware>,
    config: &[u8],
    capability: &Capability,
    quirks: &[Quirk],
    controller: &Arc<dyn InterruptController>,
) -> Option<MsixPlace> {
    if capability.size < MSIX_SIZE {
        return None;
    }
    let register = |offset| dword(config, capability.offset + offset);
    let count = (word(config, capability.offset + MSIX_CONTROL) & (MAX_VECTORS - 1)) + 1;
    let table_register = register(MSIX_TABLE);
    let table = BarRange::new(&**device, table_register, u64::from(count) * ENTRY_SIZE)?;
    let said = register(MSIX_PBA);
    let known = quirks.iter().find_map(|quirk| match quirk {
        Quirk::PendingBits(offset) => Some(offset | said & BAR_MASK),
        Quirk::NoRom => None,
    });
    let place = |register| {
        let range = BarRange::new(&**device, register, u64::from(count).div_ceil(64) * 8)?;
        Some((register, range))
    };
    let (pba_register, pba) = place(said).or_else(|| place(known?))?;
    let (vectors, backend) = device.clone().vectors(VFIO_PCI_MSIX_IRQ_INDEX)?;
    if vectors < u32::from(count) {
        return None;
    }
    let mut body = (count - 1).to_le_bytes().to_vec();
    body.extend([table_register, pba_register].into_iter().flat_map(u32::to_le_bytes));
    let msix = Msix::new(count, controller.clone(), backend);
    Some(MsixPlace { capability: *capability, body, msix, table, pba })
}
