//! The PCI function a guest sees of a passed-through device.
//!
//! BARs, command register and interrupts are virtual; the device's own memory stays enabled underneath, since VFIO
//! faults accesses to it otherwise, and only mastering the bus and INTx are the guest's to switch.

mod capability;
mod command;
#[cfg(test)]
mod fixture;
mod hardware;
mod interrupts;
mod intx;
mod quirks;
mod rom;
mod space;

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use devices::Action;
use devices::ioapic::Ioapic;
use devices::irq::InterruptController;
use devices::pci::rom::{ROM_BAR, ROM_SIZES};
use devices::pci::{BarSet, BarSpace, BarSpec, BarWindow, InterruptPin, MappedArea, PciAddress, PciFunction};
use tracing::{debug, warn};

use crate::area::{self, PAGE};
pub use crate::info::RegionInfo;
pub use crate::mapping::BarMapping;
use crate::notice::Notice;
use crate::session::{OpenError, ResetError};
use capability::{CONFIG_SIZE, EXTENDED_START, Policy, byte, dword, word};
use command::Command;
pub use hardware::Hardware;
use interrupts::Interrupts;
use intx::Intx;
pub use intx::IntxLine;
use quirks::Quirk;
use rom::Rom;
pub(crate) use space::CLASS;
use space::{INTERRUPT_PIN, Space};

const BAR0: u16 = 0x10;
const BARS: u8 = 6;
/// Power management control and status, from the start of the capability.
const PM_CONTROL: u16 = 4;
const PM_STATE: u8 = 3;
/// Device capabilities, from the start of the PCIe capability: bit 28 says that the function resets itself.
const EXPRESS_CAPABILITIES: u16 = 4;
const EXPRESS_RESETS: u32 = 1 << 28;
/// The upper byte of device control there, whose bit 15 starts that.
const EXPRESS_CONTROL: u16 = 9;
const EXPRESS_RESET: u8 = 0x80;

/// A host device as the guest sees it.
pub struct PassthroughFunction {
    state: Mutex<State>,
    interrupts: Interrupts,
    intx: Option<Arc<Intx>>,
    rom: Rom,
    /// By BAR number.
    mappings: Vec<Option<BarMapping>>,
    /// Where the power management registers are, if the device has them.
    power: Option<u16>,
    /// Where a guest starts a function-level reset, if the device has that.
    flr: Option<u16>,
    command: Arc<Command>,
    device: Arc<dyn Hardware>,
}

struct State {
    space: Space,
    bars: BarSet,
    /// In a power state other than D0, where the device does not answer in its BARs.
    asleep: bool,
}

impl PassthroughFunction {
    /// Reads the device's configuration space and BARs and maps what can be mapped.
    ///
    /// # Errors
    /// The device does not answer.
    pub fn new(
        device: Arc<dyn Hardware>,
        controller: &Arc<dyn InterruptController>,
    ) -> Result<Self, OpenError> {
        let address = device.address();
        let mut config = vec![0; device.config_size().min(CONFIG_SIZE.into()) as usize];
        // The kernel splits these, so that two calls do for a thousand registers.
        let conventional = config.len().min(EXTENDED_START.into());
        let (conventional, extended) = config.split_at_mut(conventional);
        device.config_read(0, conventional);
        if !extended.is_empty() {
            device.config_read(EXTENDED_START, extended);
        }
        if dword(&config, CLASS) == u32::MAX {
            return Err(OpenError::Silent(address));
        }
        let quirks: Vec<Quirk> = quirks::of(word(&config, 0), word(&config, 2))
            .inspect(|(_, why)| debug!(%address, why, "known to be special"))
            .map(|(quirk, _)| quirk)
            .collect();
        let mut standard = capability::standard(&config);
        let extended = capability::extended(&config);
        let interrupts = Interrupts::new(&device, &config, &mut standard, &quirks, controller);
        for capability in standard.iter().chain(&extended) {
            if let Policy::Hidden(reason) = capability.policy {
                let (id, offset) = (capability.id, capability.offset);
                debug!(%address, "capability {id:#04x} at {offset:#05x} is hidden: {reason}");
            }
        }

        let mut specs = bar_specs(&config, |index| device.bar(index).map_or(0, |region| region.size));
        specs.extend(rom_spec(&*device).filter(|_| !quirks.contains(&Quirk::NoRom)));
        let mut bars = BarSet::new();
        let mut mappings: Vec<Option<BarMapping>> = (0..BARS).map(|_| None).collect();
        let (mut has_memory, mut has_io) = (false, false);
        for spec in specs {
            if let Err(error) = bars.add(spec) {
                warn!(%address, %error, "a BAR stays hidden");
                continue;
            }
            *(if spec.space == BarSpace::Io { &mut has_io } else { &mut has_memory }) = true;
            if let Some(mapping) = mappings.get_mut(usize::from(spec.index)) {
                *mapping = map(&*device, &spec, &interrupts.trapped(spec.index));
            }
        }
        let command = Arc::new(Command::new(device.clone(), has_memory, has_io));
        let pin = InterruptPin::from_register(byte(&config, INTERRUPT_PIN));
        let line = pin.and_then(|pin| Some((pin, device.clone().intx()?)));
        let intx = line.map(|(pin, line)| Intx::new(address, pin, line, command.clone()));

        let mut space = Space::new(&config, &standard, &extended);
        interrupts.lay(&mut space);
        space.lay_interrupt_pin(intx.as_ref().map(|intx| intx.pin()));
        let power =
            standard.iter().find(|capability| capability.id == capability::PM && capability.size >= 8);
        let power = power.map(|capability| capability.offset + PM_CONTROL);
        let mut express =
            standard.iter().filter(|it| it.id == capability::EXPRESS && it.size > EXPRESS_CONTROL);
        let flr = express.find(|it| dword(&config, it.offset + EXPRESS_CAPABILITIES) & EXPRESS_RESETS != 0);
        let flr = flr.map(|capability| capability.offset + EXPRESS_CONTROL);
        let state = Mutex::new(State { space, bars, asleep: false });
        Ok(Self { state, interrupts, intx, rom: Rom::default(), mappings, power, flr, command, device })
    }

    /// The device's address on the host.
    pub fn host_address(&self) -> PciAddress {
        self.device.address()
    }

    /// What the host has to say of the device from now on. To be called once.
    pub fn notices(&self) -> Vec<Notice> {
        self.device.clone().notices()
    }

    /// Puts configuration space, interrupts and the hardware back to their state before the guest ran, for a guest
    /// reboot. BARs become unplaced: the PCI bus has to look at them anew, and to assign them again.
    /// The virtual state is reset even when the hardware cannot be.
    pub fn reset(&self) -> Result<(), ResetError> {
        let mut state = self.state();
        self.stop();
        state.space.reset();
        state.bars.reset();
        if let Some(power) = self.power.filter(|_| state.asleep) {
            // A reset wakes a device, but not every device can be reset.
            self.device.config_write(power, &[0]);
            state.asleep = false;
        }
        let result = self.device.reset();
        self.command.set(0);
        result.map_err(|source| ResetError { address: self.device.address(), source })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The guest resets the function (PCIe base 6.0 §6.6.2): VFIO does it when this is written, and what is ours goes
    /// back as well. BARs lose their addresses, and are mapped anew when the guest has restored them: if the IOMMU maps
    /// them as dma-bufs, the kernel has revoked those.
    fn reset_by_guest(&self, state: &mut State, offset: u16, data: &[u8]) {
        self.command.set(0);
        self.interrupts.reset();
        // It stays on its pin.
        self.intx.iter().for_each(|intx| intx.exclude(true));
        state.space.write(&*self.device, offset, data);
        state.space.reset();
        state.bars.reset();
        state.asleep = false;
        self.intx.iter().for_each(|intx| intx.exclude(false));
        self.command.set(0);
    }

    /// No DMA and no interrupts from here on.
    fn stop(&self) {
        self.command.set(0);
        self.interrupts.reset();
        if let Some(intx) = &self.intx {
            intx.reset();
        }
    }
}

impl PciFunction for PassthroughFunction {
    fn config_read(&self, offset: u16, data: &mut [u8]) {
        let state = self.state();
        state.space.read(&*self.device, offset, data);
        state.bars.read(offset, data);
        self.interrupts.config_read(offset, data);
    }

    fn config_write(&self, offset: u16, data: &[u8]) -> Action {
        let mut state = self.state();
        let byte_at = |at: u16| data.get(usize::from(at.checked_sub(offset)?)).copied();
        if self.flr.and_then(byte_at).is_some_and(|control| control & EXPRESS_RESET != 0) {
            self.reset_by_guest(&mut state, offset, data);
            return Action::None;
        }
        let command = state.space.command();
        state.space.write(&*self.device, offset, data);
        state.bars.write(offset, data);
        if state.space.command() != command {
            self.command.set(state.space.command());
        }
        // VFIO has one type of interrupt enabled at a time.
        let messages = self.interrupts.enabled(&state.space);
        let intx = |excluded| self.intx.iter().for_each(|intx| intx.exclude(excluded));
        if messages {
            intx(true);
        }
        self.interrupts.config_written(offset, data.len(), &state.space);
        if !messages {
            intx(false);
        }
        if let Some(power) = self.power.filter(|power| touches(offset, data.len(), *power..*power + 1)) {
            let mut control = [0];
            self.device.config_read(power, &mut control);
            state.asleep = control[0] & PM_STATE != 0;
        }
        Action::None
    }

    fn bars(&self) -> Vec<BarWindow> {
        self.state().bars.windows()
    }

    fn decoded(&self) -> Vec<BarWindow> {
        let state = self.state();
        if state.asleep { Vec::new() } else { state.bars.decoded(state.space.command()) }
    }

    fn place_bar(&self, index: u8, address: u64) {
        self.state().bars.place(index, address);
    }

    fn mapped_areas(&self, bar: u8) -> Vec<MappedArea> {
        let mapping = self.mappings.get(usize::from(bar)).and_then(Option::as_ref);
        mapping.map(|mapping| mapping.areas().to_vec()).unwrap_or_default()
    }

    fn bar_read(&self, bar: u8, offset: u64, data: &mut [u8]) {
        if bar == ROM_BAR {
            return self.rom.read(&*self.device, bar, offset, data);
        }
        if !self.interrupts.bar_read(&*self.device, bar, offset, data) {
            self.device.bar_read(bar, offset, data);
        }
    }

    fn bar_write(&self, bar: u8, offset: u64, data: &[u8]) -> Action {
        if bar != ROM_BAR && !self.interrupts.bar_write(bar, offset, data) {
            self.device.bar_write(bar, offset, data);
        }
        Action::None
    }

    fn bus_reset(&self) {
        if let Err(error) = self.reset() {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            warn!(%error, cause, "the guest resets a bus with a device that was not reset");
        }
    }

    fn interrupt_pin(&self) -> Option<InterruptPin> {
        self.intx.as_ref().map(|intx| intx.pin())
    }

    fn connect_interrupt(&self, ioapic: &Arc<Ioapic>, pin: u8) {
        if let Some(intx) = &self.intx {
            self.state().space.set_interrupt_line(pin);
            intx.attach(ioapic, pin);
        }
    }
}

impl Drop for PassthroughFunction {
    /// Stops the device. Closing it, once the session lets go of it too, resets it.
    fn drop(&mut self) {
        self.stop();
    }
}

/// Whether an access of `length` bytes at `offset` reaches into `range`.
fn touches(offset: u16, length: usize, range: Range<u16>) -> bool {
    offset < range.end && usize::from(range.start) < usize::from(offset).saturating_add(length)
}

/// The BARs a device implements: their kind from its BAR registers, their size from VFIO.
fn bar_specs(config: &[u8], size: impl Fn(u8) -> u64) -> Vec<BarSpec> {
    let mut specs = Vec::new();
    let mut index = 0;
    while index < BARS {
        let register = dword(config, BAR0 + 4 * u16::from(index));
        let space = match register {
            _ if register & 1 != 0 => BarSpace::Io,
            _ if register & 0b110 == 0b100 => BarSpace::Memory64,
            _ => BarSpace::Memory32,
        };
        let prefetchable = space != BarSpace::Io && register & 0b1000 != 0;
        if size(index) != 0 {
            specs.push(BarSpec { index, space, prefetchable, size: size(index) });
        }
        index += if space == BarSpace::Memory64 { 2 } else { 1 };
    }
    specs
}

/// The expansion ROM, if the device has one that VFIO can read.
fn rom_spec(device: &dyn Hardware) -> Option<BarSpec> {
    let region = device.bar(ROM_BAR).filter(|region| region.readable)?;
    let size = region.size.checked_next_power_of_two()?.max(*ROM_SIZES.start());
    Some(BarSpec { index: ROM_BAR, space: BarSpace::Memory32, prefetchable: false, size })
}

/// Maps what a memory BAR allows outside `holes`. What is not mapped is trapped.
fn map(device: &dyn Hardware, spec: &BarSpec, holes: &[Range<u64>]) -> Option<BarMapping> {
    let region = device.bar(spec.index).filter(|region| spec.space != BarSpace::Io && region.mappable)?;
    let areas = area::mappable(region.size, region.sparse.as_deref(), holes);
    if areas.is_empty() {
        return None;
    }
    let mapped: u64 = areas.iter().map(|area| area.end - area.start).sum();
    match device.map(region, &areas) {
        Ok(mapping) => {
            let trapped = region.size.saturating_sub(mapped) / PAGE;
            debug!(address = %device.address(), bar = spec.index, mapped, trapped_pages = trapped, "BAR mapped");
            Some(mapping)
        }
        Err(error) => {
            let (address, bar) = (device.address(), spec.index);
            warn!(%address, bar, %error, "cannot map a BAR: every access of the guest to it is emulated, slowly");
            None
        }
    }
}

#[cfg(test)]
#[path = "function_test.rs"]
mod tests;
