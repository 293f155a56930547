//! How configuration space is reached: ECAM (PCIe base 6.0 §7.2.2), and the ports 0xcf8 and 0xcfc (PCI Local Bus 3.0
//! §3.2.2.3.2).

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use super::{Devfn, PciBus};
use crate::{Action, BusDevice};

/// Bytes of ECAM a bus takes.
pub const ECAM_BUS_SIZE: u64 = 1 << 20;
/// First of the configuration ports.
pub const CONFIG_PORTS: u64 = 0xcf8;
/// Number of configuration ports.
pub const CONFIG_PORTS_SIZE: u64 = 8;

/// The ECAM window, from bus 0 on.
pub(super) struct Ecam(pub(super) Weak<PciBus>);

impl Ecam {
    /// What an offset stands for.
    fn locate(&self, offset: u64) -> Option<Register> {
        let number = u8::try_from(offset >> 20).ok()?;
        let devfn = Devfn((offset >> 12) as u8);
        Some(Register { bus: self.0.upgrade()?, number, devfn, offset: (offset & 0xfff) as u16 })
    }
}

impl BusDevice for Ecam {
    fn read(&self, offset: u64, data: &mut [u8]) {
        match self.locate(offset) {
            Some(register) if usize::from(register.offset) + data.len() <= 4096 => register.read(data),
            _ => data.fill(0xff),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> Action {
        match self.locate(offset) {
            Some(register) if usize::from(register.offset) + data.len() <= 4096 => register.write(data),
            _ => Action::None,
        }
    }
}

/// Configuration mechanism #1. One address register for all vCPUs, as in hardware: guests take a lock.
pub(super) struct ConfigPorts {
    bus: Weak<PciBus>,
    address: AtomicU32,
}

const ADDRESS_ENABLE: u32 = 1 << 31;
const ADDRESS_WRITABLE: u32 = 0x80ff_fffc;
const DATA_PORT: u64 = 4;

impl ConfigPorts {
    pub(super) fn new(bus: Weak<PciBus>) -> Self {
        Self { bus, address: AtomicU32::new(0) }
    }

    /// What an access to the data port reaches, if it is enabled and stays in the port.
    fn locate(&self, offset: u64, size: usize) -> Option<Register> {
        let address = self.address.load(Ordering::Relaxed);
        let byte = offset.checked_sub(DATA_PORT)?;
        let enabled = address & ADDRESS_ENABLE != 0;
        let inside = byte + size as u64 <= 4;
        (enabled && inside).then_some(())?;
        let (number, devfn) = ((address >> 16) as u8, Devfn((address >> 8) as u8));
        Some(Register {
            bus: self.bus.upgrade()?,
            number,
            devfn,
            offset: (address & 0xfc) as u16 + byte as u16,
        })
    }
}

impl BusDevice for ConfigPorts {
    fn read(&self, offset: u64, data: &mut [u8]) {
        if let (0, Some(data)) = (offset, data.as_mut_array::<4>()) {
            *data = self.address.load(Ordering::Relaxed).to_le_bytes();
            return;
        }
        match self.locate(offset, data.len()) {
            Some(register) => register.read(data),
            None => data.fill(0xff),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> Action {
        if let (0, Some(data)) = (offset, data.as_array::<4>()) {
            self.address.store(u32::from_le_bytes(*data) & ADDRESS_WRITABLE, Ordering::Relaxed);
            return Action::None;
        }
        match self.locate(offset, data.len()) {
            Some(register) => register.write(data),
            None => Action::None,
        }
    }
}

/// A register of a function that may be there.
struct Register {
    bus: Arc<PciBus>,
    number: u8,
    devfn: Devfn,
    offset: u16,
}

impl Register {
    fn read(&self, data: &mut [u8]) {
        self.bus.config_read(self.number, self.devfn, self.offset, data);
    }

    fn write(&self, data: &[u8]) -> Action {
        self.bus.config_write(self.number, self.devfn, self.offset, data)
    }
}

#[cfg(test)]
#[path = "access_test.rs"]
mod tests;
