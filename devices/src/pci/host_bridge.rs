//! The host bridge at 00:00.0: a header, so that guests believe there is a bus, and nothing behind it.

use std::sync::Mutex;

use super::bar::BarSet;
use super::config::{ConfigSpace, Identity};
use super::function::PciFunction;
use crate::Action;
use crate::sync::lock;

/// The "PCIe host bridge" of QEMU's registered set. It says what it is, no Linux driver binds to it, and its vendor
/// keeps the chipset quirks and EDAC drivers away that match on Intel's and AMD's bridges.
const IDENTITY: Identity = Identity {
    vendor: 0x1b36,
    device: 0x0008,
    class: 0x06_0000,
    revision: 0,
    subsystem_vendor: 0x1af4,
    subsystem: 0x1100,
};

pub(super) struct HostBridge {
    config: Mutex<ConfigSpace>,
}

impl HostBridge {
    pub(super) fn new() -> Self {
        Self { config: Mutex::new(ConfigSpace::new(&IDENTITY, BarSet::new())) }
    }
}

impl PciFunction for HostBridge {
    fn config_read(&self, offset: u16, data: &mut [u8]) {
        lock(&self.config).read(offset, data);
    }

    fn config_write(&self, offset: u16, data: &[u8]) -> Action {
        lock(&self.config).write(offset, data);
        Action::None
    }
}
