//! MSI (PCIe base 6.0 §6.1.4.1 and §7.7.1): one message for up to 32 vectors, which differ in the low data bits.
//!
//! The capability's registers live in configuration space; after a write to them their owner hands the bytes to
//! [`Msi::update`]. A vector is live while MSI is enabled, the guest allotted it and it is not masked. Its host
//! resources are allocated when it first becomes live; those that become live together are set up together.

use std::sync::{Arc, Mutex};

use super::vector::{VectorBackend, Vectors};
use crate::irq::{InterruptController, MsiMessage};
use crate::sync::lock;

/// Control word: MSI is on.
pub const CONTROL_ENABLE: u16 = 1 << 0;
const CONTROL_ALLOTTED_SHIFT: u16 = 4;
const CONTROL_OFFERED_SHIFT: u16 = 1;
const CONTROL_64BIT: u16 = 1 << 7;
const CONTROL_MASKABLE: u16 = 1 << 8;
const CONTROL_WRITABLE: u16 = 0x0071;
const ORDER_MASK: u16 = 0b111;
const MAX_ORDER: u16 = 5;

/// The form of a function's MSI capability, which is fixed by its read-only bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsiShape {
    /// Binary logarithm of the vectors offered, 0 to 5.
    order: u16,
    wide: bool,
    maskable: bool,
}

/// The MSI state of one function.
pub struct Msi {
    shape: MsiShape,
    state: Mutex<State>,
}

struct State {
    enabled: bool,
    vectors: Vectors,
}

/// The capability's registers.
#[derive(Debug, Default)]
struct Registers {
    control: u16,
    address: u64,
    data: u16,
    mask: u32,
}

impl MsiShape {
    /// A capability that offers `vectors` (rounded up to 1, 2, 4 .. 32), with or without 64-bit addresses and a
    /// mask bit a vector.
    pub fn new(vectors: u8, wide: bool, maskable: bool) -> Self {
        let order = u16::from(vectors).next_power_of_two().trailing_zeros() as u16;
        Self { order: order.min(MAX_ORDER), wide, maskable }
    }

    /// What a control word says, such as a host device's.
    pub fn from_control(control: u16) -> Self {
        Self {
            order: (control >> CONTROL_OFFERED_SHIFT & ORDER_MASK).min(MAX_ORDER),
            wide: control & CONTROL_64BIT != 0,
            maskable: control & CONTROL_MASKABLE != 0,
        }
    }

    /// Vectors offered.
    pub fn count(self) -> u16 {
        1 << self.order
    }

    /// Bytes of the capability, ID and next pointer included.
    pub fn size(self) -> u16 {
        self.pending_offset().map_or(self.data_offset() + 2, |pending| pending + 4)
    }

    /// Offset of the pending bits from the start of the capability, if it has any. Reads there are to be answered
    /// with [`Msi::pending`].
    pub fn pending_offset(self) -> Option<u16> {
        self.maskable.then(|| self.data_offset() + 8)
    }

    /// The capability without its first two bytes (ID and next pointer), as after reset.
    pub fn capability(self) -> Vec<u8> {
        let wide = if self.wide { CONTROL_64BIT } else { 0 };
        let maskable = if self.maskable { CONTROL_MASKABLE } else { 0 };
        self.body(self.order << CONTROL_OFFERED_SHIFT | wide | maskable, 0, 0, 0)
    }

    /// The bits of [`MsiShape::capability`] that the guest may write.
    pub fn writable(self) -> Vec<u8> {
        let vectors = u32::MAX >> (32 - self.count());
        self.body(CONTROL_WRITABLE, !3, !0, vectors)
    }

    fn data_offset(self) -> u16 {
        if self.wide { 0xc } else { 8 }
    }

    fn body(self, control: u16, address: u64, data: u16, mask: u32) -> Vec<u8> {
        let mut body = control.to_le_bytes().to_vec();
        body.extend(address.to_le_bytes().into_iter().take(if self.wide { 8 } else { 4 }));
        body.extend(data.to_le_bytes());
        if self.maskable {
            body.extend([0; 2]);
            body.extend(mask.to_le_bytes());
            body.extend([0; 4]);
        }
        body
    }

    /// Reads the registers back; what is missing in `body` is zero.
    fn parse(self, body: &[u8]) -> Registers {
        let number = |offset: u16, size: usize| {
            let start = usize::from(offset) - 2;
            let bytes = body.get(start..start + size).unwrap_or_default();
            bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
        };
        let data = self.data_offset();
        Registers {
            control: number(2, 2) as u16,
            address: number(4, if self.wide { 8 } else { 4 }) & !3,
            data: number(data, 2) as u16,
            mask: if self.maskable { number(data + 4, 4) as u32 } else { 0 },
        }
    }
}

impl Msi {
    /// MSI of this shape, turned off.
    pub fn new(
        shape: MsiShape,
        controller: Arc<dyn InterruptController>,
        backend: Arc<dyn VectorBackend>,
    ) -> Self {
        let vectors = Vectors::new("MSI", shape.count(), controller, backend);
        Self { shape, state: Mutex::new(State { enabled: false, vectors }) }
    }

    /// The form of the capability.
    pub fn shape(&self) -> MsiShape {
        self.shape
    }

    /// Takes the capability as it is now in configuration space, without its first two bytes.
    pub fn update(&self, body: &[u8]) {
        let registers = self.shape.parse(body);
        let mut state = lock(&self.state);
        let was_enabled = state.enabled;
        state.enabled = registers.control & CONTROL_ENABLE != 0;
        if state.enabled {
            let vectors = 0..self.shape.count();
            state.vectors.set(vectors.map(|vector| (vector, registers.message(vector, self.shape))));
        } else if was_enabled {
            state.vectors.disconnect();
        }
    }

    /// Pending bits: set while a vector is masked and has been raised.
    pub fn pending(&self) -> u32 {
        let state = lock(&self.state);
        let pending =
            (0..self.shape.count()).filter(|vector| state.vectors.is_pending(*vector) == Some(true));
        pending.fold(0, |bits, vector| bits | 1 << vector)
    }

    /// Turned off and disconnected, as after a function reset.
    pub fn reset(&self) {
        self.update(&[]);
    }
}

impl Registers {
    /// What a vector sends, if it is live.
    fn message(&self, vector: u16, shape: MsiShape) -> Option<MsiMessage> {
        let order = (self.control >> CONTROL_ALLOTTED_SHIFT & ORDER_MASK).min(shape.order);
        let allotted = 1u16 << order;
        let live = vector < allotted && self.mask >> vector & 1 == 0;
        let data = self.data & !(allotted - 1) | vector;
        live.then(|| MsiMessage { address: self.address, data: data.into() })
    }
}

#[cfg(test)]
#[path = "msi_test.rs"]
mod tests;
