//! The PCI transport (virtio 1.3 §4.1): a function whose one BAR has the registers, the doorbells and the MSI-X table.
//!
//! A function is made anew for each run of the machine; the device behind it stays. vCPU threads write registers; what a
//! write asks for is done before it returns, so a reset is complete when the driver can see it.

mod common;
mod space;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use memory::GuestRam;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::device::{Activation, Active, VirtioDevice};
use super::interrupts::{Interrupts, Notifier};
use super::queue::{Queue, RingAddresses};
use crate::Action;
use crate::doorbell::{Doorbell, Doorbells};
use crate::irq::InterruptController;
use crate::pci::msix::MAX_VECTORS;
use crate::pci::{BarWindow, ConfigSpace, Msix, PciFunction};
use crate::sync::lock;
use common::{Effect, Registers};
pub use space::SpaceError;
use space::{BAR, DOORBELL_STRIDE, DOORBELLS, MOST_QUEUES, Places, Region, region};

/// Offset of the control word in the MSI-X capability.
const MSIX_CONTROL: u16 = 2;
/// Offset of device control in the PCI Express capability, and the bit in it that resets the function.
const DEVICE_CONTROL: u16 = 8;
const INITIATE_RESET: u8 = 0x80;
/// Offsets in the window capability (§4.1.4.9).
const WINDOW_BAR: u16 = 4;
const WINDOW_OFFSET: u16 = 8;
const WINDOW_LENGTH: u16 = 12;
const WINDOW_DATA: u16 = 16;

/// Why a device cannot be put on the bus.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum VirtioPciError {
    /// No eventfd.
    #[error("cannot make the doorbells of the {device}")]
    #[diagnostic(help("the process may have too many open files: raise `ulimit -n`"))]
    Doorbell {
        /// The device.
        device: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A device of ours that is wrong.
    #[error("the {device} cannot be made")]
    #[diagnostic(help("please report this"))]
    Space {
        /// The device.
        device: String,
        /// Why.
        #[source]
        source: SpaceError,
    },
}

/// What a function needs of the machine.
#[derive(Clone)]
pub struct Surroundings {
    /// Guest memory.
    pub ram: Arc<GuestRam>,
    /// Where interrupts go.
    pub controller: Arc<dyn InterruptController>,
    /// Where doorbells hang.
    pub doorbells: Arc<dyn Doorbells>,
    /// Whether it is behind a root port.
    pub behind_port: bool,
}

/// A virtio device as a PCI function.
pub struct VirtioPci {
    device: Arc<dyn VirtioDevice>,
    around: Surroundings,
    interrupts: Arc<Interrupts>,
    msix: Msix,
    /// One a queue. Outside the lock, so that a kick waits for nothing.
    kicks: Vec<EventFd>,
    state: Mutex<State>,
    places: Places,
    pristine: ConfigSpace,
}

struct State {
    // Dropped in this order: who serves the queues, what wakes it.
    active: Option<Box<dyn Active>>,
    hung: Vec<Box<dyn Doorbell>>,
    registers: Registers,
    config: ConfigSpace,
    /// Where the BAR is mapped.
    mapped: Option<u64>,
}

impl VirtioPci {
    /// A function for `device`, as after power-on.
    ///
    /// # Errors
    /// The host has no more descriptors.
    pub fn new(device: Arc<dyn VirtioDevice>, around: Surroundings) -> Result<Arc<Self>, VirtioPciError> {
        let mut sizes = device.queue_sizes();
        sizes.truncate(MOST_QUEUES);
        let interrupts = Interrupts::new(device.name(), sizes.len());
        let vectors = u16::try_from(sizes.len() + 1).unwrap_or(MAX_VECTORS);
        let msix = Msix::new(vectors, around.controller.clone(), interrupts.clone());
        let kicks = sizes.iter().map(|_| EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)).collect::<Result<_, _>>();
        let kicks = kicks.map_err(|source| VirtioPciError::Doorbell { device: device.name(), source })?;
        let (config, places) = space::lay_out(device.kind(), &msix, around.behind_port)
            .map_err(|source| VirtioPciError::Space { device: device.name(), source })?;
        let registers = Registers::new(device.features(), &sizes);
        let pristine = config.clone();
        let state = Mutex::new(State { active: None, hung: Vec::new(), registers, config, mapped: None });
        Ok(Arc::new(Self { device, around, interrupts, msix, kicks, state, places, pristine }))
    }

    /// Stops the device, as a reset by its driver does. Nothing touches guest memory any more when it returns.
    pub fn reset_device(&self) {
        self.reset(&mut lock(&self.state));
    }

    fn reset(&self, state: &mut State) {
        state.active = None;
        state.hung.clear();
        state.registers.reset();
        self.interrupts.reset();
    }

    /// The whole function back to its state after power-on (FLR, bus reset).
    fn reset_function(&self) {
        let mut state = lock(&self.state);
        self.reset(&mut state);
        state.config = self.pristine.clone();
        drop(state);
        self.msix.reset();
    }

    fn act(&self, state: &mut State, effect: Effect) {
        match effect {
            Effect::None => {}
            Effect::Reset => self.reset(state),
            Effect::ConfigVector(vector) => {
                let vector = self.interrupts.set_config_vector(vector);
                state.registers.settle_vector(None, vector);
            }
            Effect::QueueVector(queue, vector) => {
                let vector = self.interrupts.set_queue_vector(queue, vector);
                state.registers.settle_vector(Some(queue), vector);
            }
            Effect::Activate => {
                if let Some(queues) = self.queues(state, |_| true) {
                    self.activate(state, queues);
                }
                self.hang(state);
            }
            Effect::StartQueue(index) => {
                let queue = self.queues(state, |queue| queue == index).and_then(|mut queues| queues.pop());
                let started = match (&mut state.active, queue) {
                    (Some(active), Some(queue)) => active.start_queue(queue),
                    _ => Ok(()),
                };
                started.unwrap_or_else(|error| self.notifier().broken(&error));
                self.hang(state);
            }
            Effect::StopQueue(index) => {
                if let Some(active) = &mut state.active {
                    active.stop_queue(index);
                }
                self.hang(state);
            }
        }
    }

    fn activate(&self, state: &mut State, queues: Vec<Queue>) {
        let features = state.registers.accepted();
        let driver = Activation { features, queues, notifier: self.notifier(), ram: self.around.ram.clone() };
        match self.device.activate(driver) {
            Ok(active) => state.active = Some(active),
            Err(error) => self.notifier().broken(&error),
        }
    }

    fn notifier(&self) -> Notifier {
        Notifier::new(&self.interrupts)
    }

    /// The enabled queues that are `wanted`; none at all if one of them cannot be used.
    fn queues(&self, state: &State, wanted: impl Fn(u16) -> bool) -> Option<Vec<Queue>> {
        let features = state.registers.accepted();
        let queue = |(index, addresses): (u16, RingAddresses)| {
            let kick = self.kicks.get(usize::from(index))?.try_clone();
            let kick = kick.map_err(|error| self.notifier().broken(&error)).ok()?;
            let ram = self.around.ram.clone();
            let queue = Queue::new(index, addresses, features, ram, kick, self.notifier());
            queue.map_err(|error| self.notifier().broken(&error)).ok()
        };
        state.registers.enabled().filter(|(index, _)| wanted(*index)).map(queue).collect()
    }

    /// Hangs the doorbells of the enabled queues of an active device where the BAR is now. A doorbell that cannot be had
    /// rings all the same, by way of an exit.
    fn hang(&self, state: &mut State) {
        state.hung.clear();
        let Some(base) = state.mapped.filter(|_| state.registers.is_live()) else { return };
        for (index, _) in state.registers.enabled() {
            let Some(kick) = self.kicks.get(usize::from(index)) else { continue };
            let gpa = base + DOORBELLS + u64::from(index) * DOORBELL_STRIDE;
            match self.around.doorbells.hang(gpa, kick) {
                Ok(doorbell) => state.hung.push(doorbell),
                Err(error) => tracing::debug!(device = self.device.name(), gpa, %error, "doorbell exits"),
            }
        }
    }

    /// The part of the BAR that the window in configuration space shows, if the driver has set it up well.
    fn window(&self, state: &State) -> Option<(u64, usize)> {
        let at = self.places.window;
        let mut data = [0; 4];
        state.config.read(at + WINDOW_OFFSET, &mut data);
        let offset = u64::from(u32::from_le_bytes(data));
        state.config.read(at + WINDOW_LENGTH, &mut data);
        let length = u32::from_le_bytes(data) as usize;
        let mut bar = [0];
        state.config.read(at + WINDOW_BAR, &mut bar);
        (bar == [BAR] && matches!(length, 1 | 2 | 4)).then_some((offset, length))
    }

    /// What an access to the window's data is an access to.
    fn through_window(&self, state: MutexGuard<'_, State>, offset: u16, length: usize) -> Option<u64> {
        let (at, shown) = self.window(&state)?;
        (offset == self.places.window + WINDOW_DATA && length == shown).then_some(at)
    }

    fn is_window_data(&self, offset: u16) -> bool {
        let data = self.places.window + WINDOW_DATA;
        (data..data + 4).contains(&offset)
    }
}

impl PciFunction for VirtioPci {
    fn config_read(&self, offset: u16, data: &mut [u8]) {
        let state = lock(&self.state);
        state.config.read(offset, data);
        if self.is_window_data(offset)
            && let Some(at) = self.through_window(state, offset, data.len())
        {
            self.bar_read(BAR, at, data);
        }
    }

    fn config_write(&self, offset: u16, data: &[u8]) -> Action {
        let mut state = lock(&self.state);
        if self.is_window_data(offset) {
            return match self.through_window(state, offset, data.len()) {
                Some(at) => self.bar_write(BAR, at, data),
                None => Action::None,
            };
        }
        state.config.write(offset, data);
        let mut msix_control = [0; 2];
        state.config.read(self.places.msix + MSIX_CONTROL, &mut msix_control);
        drop(state);
        self.msix.set_control(u16::from_le_bytes(msix_control));
        // The bit is in the upper byte of the register and reads as 0.
        let control = self.places.express + DEVICE_CONTROL + 1;
        let byte = control.checked_sub(offset).and_then(|at| data.get(usize::from(at)));
        if byte.is_some_and(|byte| byte & INITIATE_RESET != 0) {
            self.reset_function();
        }
        Action::None
    }

    fn bars(&self) -> Vec<BarWindow> {
        lock(&self.state).config.bars().windows()
    }

    fn decoded(&self) -> Vec<BarWindow> {
        lock(&self.state).config.decoded()
    }

    fn place_bar(&self, index: u8, address: u64) {
        lock(&self.state).config.bars_mut().place(index, address);
    }

    fn bar_mapped(&self, _bar: u8, gpa: Option<u64>) {
        let mut state = lock(&self.state);
        state.mapped = gpa;
        self.hang(&mut state);
    }

    fn bar_read(&self, _bar: u8, offset: u64, data: &mut [u8]) {
        data.fill(0);
        match region(offset) {
            Region::Common(offset) => {
                let (broken, generation) = (self.interrupts.is_broken(), self.interrupts.generation());
                lock(&self.state).registers.read(offset, data, broken, generation);
            }
            Region::Isr => data.iter_mut().take(1).for_each(|byte| *byte = self.interrupts.take_isr()),
            Region::Device(offset) => self.device.read_config(offset, data),
            Region::Table(offset) => self.msix.table_read(offset, data),
            Region::Pending(offset) => {
                (offset..).zip(data.iter_mut()).for_each(|(at, byte)| {
                    *byte = self.interrupts.pending(at.saturating_mul(8));
                });
                self.msix.pba_read(offset, data);
            }
            Region::Doorbell(_) | Region::Nothing => {}
        }
    }

    fn bar_write(&self, _bar: u8, offset: u64, data: &[u8]) -> Action {
        match region(offset) {
            Region::Common(offset) => {
                let mut state = lock(&self.state);
                let effect = state.registers.write(offset, data);
                self.act(&mut state, effect);
            }
            Region::Doorbell(queue) => {
                if let Some(kick) = self.kicks.get(usize::from(queue)) {
                    // Only a full counter refuses, and then it is signalled already.
                    let _ = kick.write(1);
                }
            }
            Region::Device(offset) => self.device.write_config(offset, data),
            Region::Table(offset) => self.msix.table_write(offset, data),
            Region::Isr | Region::Pending(_) | Region::Nothing => {}
        }
        Action::None
    }

    fn bus_reset(&self) {
        self.reset_function();
    }
}

#[cfg(test)]
#[path = "pci_test.rs"]
mod tests;
