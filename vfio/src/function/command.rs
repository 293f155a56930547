//! The device's command register: what the guest wants of it, and what we keep as it must be.
//!
//! Memory and port I/O stay decoded, since VFIO faults accesses to the BARs otherwise. Errors that the host has the device
//! report stay reported, since a guest that fails for one is to be told from one that hangs. INTx stays disabled until its
//! interrupt is wired: VFIO would enable it in the device without anyone on the host to take it
//! (`vfio_pci_intx_unmask_handler`).

use std::sync::{Arc, Mutex, PoisonError};

use super::hardware::Hardware;
use super::space::{
    COMMAND, COMMAND_INTX_DISABLE, COMMAND_IO, COMMAND_MASTER, COMMAND_MEMORY, COMMAND_PARITY, COMMAND_SERR,
};

/// What the guest's bits reach the device with.
const PASSED: u16 = COMMAND_MASTER | COMMAND_PARITY | COMMAND_SERR | COMMAND_INTX_DISABLE;

/// The command register of one device.
pub(crate) struct Command {
    device: Arc<dyn Hardware>,
    state: Mutex<State>,
}

struct State {
    /// As the guest wrote it.
    guest: u16,
    /// What is set whatever the guest wrote: the device's BARs are decoded, and its errors are reported as the host has it.
    kept: u16,
    /// Somebody takes the device's INTx.
    intx: bool,
}

impl Command {
    /// Drives the device to what a guest finds: decoding its BARs, reporting errors, and nothing else.
    pub(crate) fn new(device: Arc<dyn Hardware>, has_memory: bool, has_io: bool) -> Self {
        let decoding = if has_memory { COMMAND_MEMORY } else { 0 } | if has_io { COMMAND_IO } else { 0 };
        let mut found = [0; 2];
        device.config_read(COMMAND, &mut found);
        let kept = decoding | u16::from_le_bytes(found) & (COMMAND_PARITY | COMMAND_SERR);
        let command = Self { device, state: Mutex::new(State { guest: 0, kept, intx: false }) };
        command.update(|_| {});
        command
    }

    /// The guest wrote `value`.
    pub(crate) fn set(&self, value: u16) {
        self.update(|state| state.guest = value);
    }

    /// INTx is wired, or is about to be no more.
    pub(crate) fn set_intx(&self, wired: bool) {
        self.update(|state| state.intx = wired);
    }

    fn update(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state);
        let forced = state.kept | if state.intx { 0 } else { COMMAND_INTX_DISABLE };
        let command = state.guest & PASSED | forced;
        self.device.config_write(COMMAND, &command.to_le_bytes());
    }
}
