//! MSI-X (PCIe base 6.0 §6.1.4.2 and §7.7.2): the capability's control word, the vector table and the pending bits.
//!
//! A vector is live while MSI-X is enabled, the function is not masked and the vector is not masked. Its host
//! resources are allocated when it first becomes live, since most guests use a few of the vectors a device offers.
//! Vectors that become live together, as when the function is unmasked, are set up together.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use super::vector::{VectorBackend, Vectors};
use crate::irq::{InterruptController, MsiMessage};
use crate::sync::lock;

/// Control word: MSI-X is on.
pub const CONTROL_ENABLE: u16 = 1 << 15;
/// Control word: all vectors are masked.
pub const CONTROL_FUNCTION_MASK: u16 = 1 << 14;
/// Bits of the control word that the guest may write.
pub const CONTROL_WRITABLE: u16 = CONTROL_ENABLE | CONTROL_FUNCTION_MASK;
/// Most vectors a function can have.
pub const MAX_VECTORS: u16 = 2048;
/// Bytes of one table entry.
pub const ENTRY_SIZE: u64 = 16;

const VECTOR_MASKED: u32 = 1;

/// Where in a function's BARs a structure lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarOffset {
    /// BAR number.
    pub bar: u8,
    /// Bytes from the start of the BAR, a multiple of 8.
    pub offset: u32,
}

/// The MSI-X state of one function.
pub struct Msix {
    state: Mutex<State>,
    count: u16,
}

struct State {
    control: u16,
    table: Vec<Entry>,
    vectors: Vectors,
}

/// A table entry as its four registers: address low, address high, data, control.
#[derive(Clone, Copy)]
struct Entry([u32; 4]);

impl Msix {
    /// MSI-X with `count` vectors (at least 1, at most [`MAX_VECTORS`], else the nearer of the two), turned off.
    pub fn new(
        count: u16,
        controller: Arc<dyn InterruptController>,
        backend: Arc<dyn VectorBackend>,
    ) -> Self {
        let count = count.clamp(1, MAX_VECTORS);
        let state = State {
            control: 0,
            table: vec![Entry::RESET; count.into()],
            vectors: Vectors::new("MSI-X", count, controller, backend),
        };
        Self { state: Mutex::new(state), count }
    }

    /// Vectors in the table.
    pub fn count(&self) -> u16 {
        self.count
    }

    /// Bytes of the table.
    pub fn table_size(&self) -> u64 {
        u64::from(self.count) * ENTRY_SIZE
    }

    /// Bytes of the pending bit array.
    pub fn pba_size(&self) -> u64 {
        u64::from(self.count).div_ceil(64) * 8
    }

    /// The capability without its first two bytes (ID and next pointer), as after reset.
    pub fn capability(&self, table: BarOffset, pba: BarOffset) -> [u8; 10] {
        let word = |place: BarOffset| (place.offset & !7 | u32::from(place.bar & 7)).to_le_bytes();
        let mut body = [0; 10];
        let parts = (self.count - 1).to_le_bytes().into_iter().chain(word(table)).chain(word(pba));
        body.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
        body
    }

    /// The control word.
    pub fn control(&self) -> u16 {
        lock(&self.state).control | (self.count - 1)
    }

    /// Takes the control word as it is now in configuration space. Read-only bits are ignored, so the caller
    /// may pass whatever the register holds after any write.
    pub fn set_control(&self, value: u16) {
        let mut state = lock(&self.state);
        let before = std::mem::replace(&mut state.control, value & CONTROL_WRITABLE);
        if state.control == before {
            return;
        }
        if state.control & CONTROL_ENABLE != 0 {
            if before & CONTROL_ENABLE == 0 {
                state.vectors.enable();
            }
            state.refresh(0..self.count);
        } else {
            state.vectors.disconnect();
        }
    }

    /// Reads `data.len()` bytes of the table at `offset` bytes from its start; what lies beyond reads as 0.
    pub fn table_read(&self, offset: u64, data: &mut [u8]) {
        let state = lock(&self.state);
        for (at, byte) in data.iter_mut().enumerate() {
            let at = offset.saturating_add(at as u64);
            let register =
                state.table.get(to_index(at / ENTRY_SIZE)).and_then(|entry| entry.register(at / 4));
            *byte =
                register.and_then(|value| value.to_le_bytes().get(to_index(at % 4)).copied()).unwrap_or(0);
        }
    }

    /// Writes an aligned dword or qword of the table at `offset`. Everything else is undefined by the
    /// specification (§6.1.4.2) and dropped here.
    pub fn table_write(&self, offset: u64, data: &[u8]) {
        let (dwords, rest) = data.as_chunks::<4>();
        if !rest.is_empty() || dwords.len() > 2 || !offset.is_multiple_of(4) {
            return;
        }
        let mut state = lock(&self.state);
        let mut written = 0..0;
        for (dword, value) in
            (offset / 4..).zip(dwords).filter(|(dword, _)| dword / 4 < u64::from(self.count))
        {
            let vector = (dword / 4) as u16;
            if let Some(entry) = state.table.get_mut(usize::from(vector)) {
                entry.set_register(dword, u32::from_le_bytes(*value));
            }
            written = if written.is_empty() { vector..vector + 1 } else { written.start..vector + 1 };
        }
        // Only now, so that a qword sets both halves of an address before the message is used.
        state.refresh(written);
    }

    /// Reads the pending bit array: a bit is set while its vector is masked and has been raised. `data` comes with what
    /// whoever raises the vectors says of them, which is kept for those that were never unmasked; 0 if it says nothing.
    pub fn pba_read(&self, offset: u64, data: &mut [u8]) {
        let state = lock(&self.state);
        for (at, byte) in data.iter_mut().enumerate() {
            let first = offset.saturating_add(at as u64).saturating_mul(8);
            for bit in 0..8 {
                let vector = u16::try_from(first.saturating_add(bit)).unwrap_or(u16::MAX);
                let own = if vector < self.count { state.vectors.is_pending(vector) } else { Some(false) };
                if let Some(pending) = own {
                    *byte = *byte & !(1 << bit) | u8::from(pending) << bit;
                }
            }
        }
    }

    /// Back to how it was made: off, all entries zero and masked, everything disconnected.
    pub fn reset(&self) {
        let mut state = lock(&self.state);
        state.control = 0;
        state.table.fill(Entry::RESET);
        state.vectors.disconnect();
    }
}

impl State {
    /// Makes the vectors' messages what the table and the control word say.
    fn refresh(&mut self, vectors: Range<u16>) {
        let live = self.control & CONTROL_WRITABLE == CONTROL_ENABLE;
        let message = |vector: u16| {
            let entry = self.table.get(usize::from(vector)).filter(|entry| live && !entry.is_masked());
            (vector, entry.map(Entry::message))
        };
        self.vectors.set(vectors.map(message));
    }
}

impl Entry {
    const RESET: Self = Self([0, 0, 0, VECTOR_MASKED]);

    fn register(&self, dword: u64) -> Option<u32> {
        self.0.get(to_index(dword % 4)).copied()
    }

    fn set_register(&mut self, dword: u64, value: u32) {
        let writable = match dword % 4 {
            0 => !3,
            3 => VECTOR_MASKED,
            _ => !0,
        };
        if let Some(register) = self.0.get_mut(to_index(dword % 4)) {
            *register = value & writable;
        }
    }

    fn is_masked(&self) -> bool {
        self.0[3] & VECTOR_MASKED != 0
    }

    fn message(&self) -> MsiMessage {
        let [low, high, data, _] = self.0;
        MsiMessage { address: u64::from(high) << 32 | u64::from(low), data }
    }
}

/// A table index from guest input; what does not fit is past the end of any table.
fn to_index(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

#[cfg(test)]
#[path = "msix_test.rs"]
mod tests;
