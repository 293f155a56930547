//! An emulated configuration space of 4 KiB, of type 0 or 1 (PCIe base 6.0 §7.5.1, §7.5.3, §7.6).
//!
//! Every bit is read-only until it is made writable or write-one-to-clear. BARs answer through their [`BarSet`].

use super::bar::BarSet;
use super::function::BarWindow;

/// Bytes of configuration space a function has.
pub const CONFIG_SIZE: usize = 4096;
/// Offset of the command register.
pub const COMMAND: u16 = 0x04;
/// Offset of the status register.
pub const STATUS: u16 = 0x06;
/// Offset of the header type.
pub const HEADER_TYPE: u16 = 0x0e;
/// Header type: the device has more functions than this one.
pub const MULTI_FUNCTION: u8 = 0x80;

/// Header type: a bridge.
const BRIDGE: u8 = 1;
const CACHE_LINE_SIZE: u16 = 0x0c;
const SUBSYSTEM_VENDOR: u16 = 0x2c;
const CAPABILITIES_POINTER: u16 = 0x34;
const INTERRUPT_LINE: u16 = 0x3c;

/// I/O, memory, bus master, parity response, SERR#, INTx disable.
const COMMAND_WRITABLE: u16 = 0x0547;
/// Parity and abort errors.
const STATUS_CLEARABLE: u16 = 0xf900;
const STATUS_CAPABILITIES: u16 = 1 << 4;

const CAPABILITIES: u16 = 0x40;
const EXTENDED_CAPABILITIES: u16 = 0x100;

/// What a function is, as its header tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Vendor ID.
    pub vendor: u16,
    /// Device ID.
    pub device: u16,
    /// Base class, subclass and programming interface, as in 0x060000.
    pub class: u32,
    /// Revision.
    pub revision: u8,
    /// Subsystem vendor ID.
    pub subsystem_vendor: u16,
    /// Subsystem ID.
    pub subsystem: u16,
}

/// A capability that does not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no room for {size} bytes of capability {id:#x} at {at:#x} in configuration space")]
pub struct CapabilityError {
    /// Capability ID.
    pub id: u16,
    /// Its bytes, header included.
    pub size: usize,
    /// Where the free space starts.
    pub at: u16,
}

/// Configuration space of one function.
#[derive(Clone)]
pub struct ConfigSpace {
    registers: Box<[Register; CONFIG_SIZE]>,
    /// A bridge's registers lie where those of BARs are in other functions.
    is_bridge: bool,
    bars: BarSet,
    /// Offset of the next capability, and of the pointer that will lead to it.
    capabilities: (u16, u16),
    /// Offset of the next extended capability, and of the header that will lead to it.
    extended: (u16, Option<u16>),
}

/// One byte with what a write does to its bits.
#[derive(Clone, Copy, Default)]
struct Register {
    value: u8,
    writable: u8,
    /// Write one to clear.
    clearable: u8,
}

impl ConfigSpace {
    /// The header of a function without capabilities.
    pub fn new(identity: &Identity, bars: BarSet) -> Self {
        let mut space = Self {
            registers: Box::new([Register::default(); CONFIG_SIZE]),
            is_bridge: false,
            bars,
            capabilities: (CAPABILITIES, CAPABILITIES_POINTER),
            extended: (EXTENDED_CAPABILITIES, None),
        };
        space.set(0x00, &identity.vendor.to_le_bytes());
        space.set(0x02, &identity.device.to_le_bytes());
        space.set(0x08, &(identity.class << 8 | u32::from(identity.revision)).to_le_bytes());
        space.set(SUBSYSTEM_VENDOR, &identity.subsystem_vendor.to_le_bytes());
        space.set(SUBSYSTEM_VENDOR + 2, &identity.subsystem.to_le_bytes());
        space.set_writable(COMMAND, &COMMAND_WRITABLE.to_le_bytes());
        space.set_clearable(STATUS, &STATUS_CLEARABLE.to_le_bytes());
        space.set_writable(CACHE_LINE_SIZE, &[0xff]);
        space.set_writable(INTERRUPT_LINE, &[0xff]);
        space
    }

    /// The header of a bridge without BARs, whose own registers, 0x18 to 0x33 and 0x3e to 0x3f, are all zero and
    /// read-only. It has no subsystem IDs.
    pub fn bridge(identity: &Identity) -> Self {
        let identity = Identity { subsystem_vendor: 0, subsystem: 0, ..*identity };
        let mut space = Self::new(&identity, BarSet::new());
        space.set(HEADER_TYPE, &[BRIDGE]);
        space.is_bridge = true;
        space
    }

    /// Appends a capability to the list at 0x40 and up and gives its offset. `body` is what follows the ID and
    /// the next pointer; `writable` are its writable bits, missing bytes being read-only.
    pub fn add_capability(&mut self, id: u8, body: &[u8], writable: &[u8]) -> Result<u16, CapabilityError> {
        let (at, pointer) = self.capabilities;
        let size = 2 + body.len();
        let next = room(id.into(), size, at, EXTENDED_CAPABILITIES)?;
        self.set(at, &[id, 0]);
        self.set(at + 2, body);
        self.set_writable(at + 2, writable.get(..body.len()).unwrap_or(writable));
        self.set(pointer, &[at as u8]);
        let status = self.word(STATUS) | STATUS_CAPABILITIES;
        self.set(STATUS, &status.to_le_bytes());
        self.capabilities = (next, at + 1);
        Ok(at)
    }

    /// Appends an extended capability to the list at 0x100 and up and gives its offset. `body` is what follows
    /// the four bytes of header; `writable` as in [`ConfigSpace::add_capability`].
    pub fn add_extended_capability(
        &mut self,
        id: u16,
        version: u8,
        body: &[u8],
        writable: &[u8],
    ) -> Result<u16, CapabilityError> {
        let (at, last) = self.extended;
        let size = 4 + body.len();
        let next = room(id, size, at, CONFIG_SIZE as u16)?;
        self.set(at, &id.to_le_bytes());
        self.set(at + 2, &[version & 0xf, 0]);
        self.set(at + 4, body);
        self.set_writable(at + 4, writable.get(..body.len()).unwrap_or(writable));
        if let Some(last) = last {
            let link = at << 4 | self.word(last + 2) & 0xf;
            self.set(last + 2, &link.to_le_bytes());
        }
        self.extended = (next, Some(at));
        Ok(at)
    }

    /// Sets bytes as the device itself does, whatever the guest may write. Bytes past the end are ignored.
    pub fn set(&mut self, offset: u16, bytes: &[u8]) {
        self.each(offset, bytes, |register, byte| register.value = byte);
    }

    /// Makes exactly these bits writable, in the bytes from `offset` on.
    pub fn set_writable(&mut self, offset: u16, masks: &[u8]) {
        self.each(offset, masks, |register, mask| register.writable = mask);
    }

    /// Makes exactly these bits write-one-to-clear, in the bytes from `offset` on.
    pub fn set_clearable(&mut self, offset: u16, masks: &[u8]) {
        self.each(offset, masks, |register, mask| register.clearable = mask);
    }

    /// Reads as the guest does; bytes past the end read as all ones.
    pub fn read(&self, offset: u16, data: &mut [u8]) {
        let registers = self.registers.get(usize::from(offset)..).unwrap_or_default();
        data.fill(0xff);
        data.iter_mut().zip(registers).for_each(|(byte, register)| *byte = register.value);
        if !self.is_bridge {
            self.bars.read(offset, data);
        }
    }

    /// Writes as the guest does; bytes past the end are ignored.
    pub fn write(&mut self, offset: u16, data: &[u8]) {
        self.each(offset, data, |register, byte| {
            let Register { value, writable, clearable } = *register;
            register.value = (value & !writable | byte & writable) & !(byte & clearable);
        });
        self.bars.write(offset, data);
    }

    /// The two bytes at `offset`.
    pub fn word(&self, offset: u16) -> u16 {
        let mut data = [0; 2];
        self.read(offset, &mut data);
        u16::from_le_bytes(data)
    }

    /// The BARs.
    pub fn bars(&self) -> &BarSet {
        &self.bars
    }

    /// The BARs, to place or reset them.
    pub fn bars_mut(&mut self) -> &mut BarSet {
        &mut self.bars
    }

    /// The BARs the command register lets decode.
    pub fn decoded(&self) -> Vec<BarWindow> {
        self.bars.decoded(self.word(COMMAND))
    }

    fn each(&mut self, offset: u16, bytes: &[u8], mut change: impl FnMut(&mut Register, u8)) {
        let registers = self.registers.get_mut(usize::from(offset)..).unwrap_or_default();
        registers.iter_mut().zip(bytes).for_each(|(register, byte)| change(register, *byte));
    }
}

/// Where the next capability starts, if this one fits before `end`.
fn room(id: u16, size: usize, at: u16, end: u16) -> Result<u16, CapabilityError> {
    let next = (usize::from(at) + size).next_multiple_of(4);
    u16::try_from(next).ok().filter(|next| *next <= end).ok_or(CapabilityError { id, size, at })
}

#[cfg(test)]
#[path = "config_test.rs"]
mod tests;
