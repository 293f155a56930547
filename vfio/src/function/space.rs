//! Configuration space as the guest sees it: bit by bit either the device's own or ours.
//!
//! The header is ours but for the status register, the lists of capabilities are rewritten so that they skip what is
//! hidden, and the rest is the device's as VFIO shows it (drivers/vfio/pci/vfio_pci_config.c), which guards it as well.

use devices::pci::InterruptPin;

use super::capability::{CONFIG_SIZE, Capability, EXTENDED_START, Policy, STANDARD_START, byte, dword, word};
use super::hardware::Hardware;

/// Command register.
pub(crate) const COMMAND: u16 = 0x04;
/// Command: port I/O is decoded.
pub(crate) const COMMAND_IO: u16 = 1 << 0;
/// Command: memory is decoded.
pub(crate) const COMMAND_MEMORY: u16 = 1 << 1;
/// Command: the device may do DMA and send messages.
pub(crate) const COMMAND_MASTER: u16 = 1 << 2;
/// Command: parity errors are reported.
pub(crate) const COMMAND_PARITY: u16 = 1 << 6;
/// Command: system errors are reported.
pub(crate) const COMMAND_SERR: u16 = 1 << 8;
/// Command: INTx is off.
pub(crate) const COMMAND_INTX_DISABLE: u16 = 1 << 10;

/// Revision and class, which nothing that answers has as all ones. IDs are all ones in a virtual function: the host's
/// kernel knows them from its physical one (PCIe base 6.0 §9.3.4.1.1).
pub(crate) const CLASS: u16 = 0x08;

const STATUS: u16 = 0x06;
const STATUS_INTX: u8 = 1 << 3;
const STATUS_LIST: u8 = 1 << 4;
const CACHE_LINE_SIZE: u16 = 0x0c;
const LATENCY_TIMER: u16 = 0x0d;
const HEADER_TYPE: u16 = 0x0e;
const MULTI_FUNCTION: u8 = 0x80;
const SUBSYSTEM: u16 = 0x2c;
const LIST: u16 = 0x34;
const INTERRUPT_LINE: u16 = 0x3c;
/// Interrupt pin.
pub(crate) const INTERRUPT_PIN: u16 = 0x3d;
const MIN_GRANT: u16 = 0x3e;

/// One byte of configuration space.
#[derive(Clone, Copy, Default)]
struct Cell {
    /// The bits that are ours.
    ours: u8,
    /// Their values.
    value: u8,
    /// Which of them the guest may write. All start as 0.
    writable: u8,
    /// Whether writes reach the device.
    through: bool,
}

/// The guest's view.
pub(crate) struct Space {
    cells: Vec<Cell>,
}

impl Space {
    /// The view of a device whose configuration space holds `config` and these capabilities. BARs have to be laid over
    /// it, and the bodies of [`Policy::Emulated`] ones set with [`Space::lay_body`].
    pub(crate) fn new(config: &[u8], standard: &[Capability], extended: &[Capability]) -> Self {
        let own = Cell { through: true, ..Cell::default() };
        let mut space = Self { cells: vec![own; CONFIG_SIZE.into()] };
        space.lay_header(config);
        space.lay_capabilities(config, standard, extended);
        space.link_standard(config, standard);
        space.link_extended(config, extended);
        for offset in config.len().min(CONFIG_SIZE.into())..CONFIG_SIZE.into() {
            // A function without extended configuration space does not answer there.
            space.fix(offset as u16, 0xff);
        }
        space
    }

    /// Reads at `offset`.
    pub(crate) fn read(&self, hardware: &dyn Hardware, offset: u16, data: &mut [u8]) {
        let cells = self.at(offset, data.len());
        data.fill(0xff);
        if cells.iter().any(|cell| cell.ours != 0xff) {
            hardware.config_read(offset, data);
        }
        for (byte, cell) in data.iter_mut().zip(cells) {
            *byte = *byte & !cell.ours | cell.value & cell.ours;
        }
    }

    /// Writes at `offset`.
    pub(crate) fn write(&mut self, hardware: &dyn Hardware, offset: u16, data: &[u8]) {
        let cells = self.at(offset, data.len());
        let mut rest = data;
        let mut place = offset;
        for run in cells.chunk_by(|one, next| one.through == next.through) {
            let Some((part, behind)) = rest.split_at_checked(run.len()) else { break };
            if run.first().is_some_and(|cell| cell.through) {
                hardware.config_write(place, part);
            }
            (rest, place) = (behind, place.saturating_add(run.len() as u16));
        }
        for (cell, byte) in self.cells.iter_mut().skip(offset.into()).zip(data) {
            cell.value = cell.value & !cell.writable | byte & cell.writable;
        }
    }

    /// The command register as the guest wrote it.
    pub(crate) fn command(&self) -> u16 {
        word(&self.values(COMMAND, 2), 0)
    }

    /// What is ours at `offset`.
    pub(crate) fn values(&self, offset: u16, length: u16) -> Vec<u8> {
        self.at(offset, length.into()).iter().map(|cell| cell.value).collect()
    }

    /// Gives an emulated capability at `offset` its registers (without ID and next pointer) and the bits of them that
    /// the guest may write, all of them 0 now. Stays inside the capability.
    pub(crate) fn lay_body(&mut self, capability: &Capability, body: &[u8], writable: &[u8]) {
        let places = capability.offset + 2..capability.offset.saturating_add(capability.size);
        for ((offset, value), writable) in places.zip(body).zip(writable) {
            self.set(offset, Cell { ours: 0xff, value: *value, writable: *writable, through: false });
        }
    }

    /// Gives the function an interrupt pin, and the device's own INTx status with it.
    pub(crate) fn lay_interrupt_pin(&mut self, pin: Option<InterruptPin>) {
        let Some(pin) = pin else { return };
        self.fix(INTERRUPT_PIN, pin.register());
        if let Some(cell) = self.cells.get_mut(usize::from(STATUS)) {
            cell.ours &= !STATUS_INTX;
        }
    }

    /// Leaves in the interrupt line register what firmware would: the pin of the interrupt controller. Lasts until
    /// [`Space::reset`].
    pub(crate) fn set_interrupt_line(&mut self, line: u8) {
        if let Some(cell) = self.cells.get_mut(usize::from(INTERRUPT_LINE)) {
            cell.value = line;
        }
    }

    /// What the guest wrote is gone.
    pub(crate) fn reset(&mut self) {
        for cell in &mut self.cells {
            cell.value &= !cell.writable;
        }
    }

    fn at(&self, offset: u16, length: usize) -> &[Cell] {
        let start = usize::from(offset);
        self.cells.get(start..start.saturating_add(length)).unwrap_or_default()
    }

    fn set(&mut self, offset: u16, cell: Cell) {
        if let Some(place) = self.cells.get_mut(usize::from(offset)) {
            *place = cell;
        }
    }

    /// Makes a byte ours and read-only.
    fn fix(&mut self, offset: u16, value: u8) {
        self.set(offset, Cell { ours: 0xff, value, ..Cell::default() });
    }

    /// Makes a byte ours, with bits that the guest may write.
    fn emulate(&mut self, offset: u16, writable: u8) {
        self.set(offset, Cell { ours: 0xff, writable, ..Cell::default() });
    }

    fn lay_header(&mut self, config: &[u8]) {
        for offset in 0..STANDARD_START {
            // IDs, class and the like. BARs, ROM and interrupt pin are laid over it; the self test is not the guest's.
            let copied =
                matches!(offset, 0x00..0x04 | 0x08..0x0c | SUBSYSTEM..0x30 | MIN_GRANT..STANDARD_START);
            self.fix(offset, if copied { byte(config, offset) } else { 0 });
        }
        let command = COMMAND_IO
            | COMMAND_MEMORY
            | COMMAND_MASTER
            | COMMAND_PARITY
            | COMMAND_SERR
            | COMMAND_INTX_DISABLE;
        for (offset, writable) in (COMMAND..).zip(command.to_le_bytes()) {
            self.emulate(offset, writable);
        }
        self.set(STATUS, Cell { ours: STATUS_INTX | STATUS_LIST, through: true, ..Cell::default() });
        self.set(STATUS + 1, Cell { through: true, ..Cell::default() });
        self.fix(HEADER_TYPE, byte(config, HEADER_TYPE) & !MULTI_FUNCTION);
        for offset in [CACHE_LINE_SIZE, LATENCY_TIMER, INTERRUPT_LINE] {
            self.emulate(offset, 0xff);
        }
    }

    fn lay_capabilities(&mut self, config: &[u8], standard: &[Capability], extended: &[Capability]) {
        for capability in standard.iter().chain(extended) {
            for offset in capability.offset..capability.offset.saturating_add(capability.size) {
                match capability.policy {
                    Policy::Through => {}
                    Policy::ReadOnly => self.set(offset, Cell::default()),
                    Policy::Emulated => self.fix(offset, byte(config, offset)),
                    Policy::Hidden(_) => self.fix(offset, 0),
                }
            }
        }
    }

    /// Links the visible capabilities in the order they had.
    fn link_standard(&mut self, config: &[u8], capabilities: &[Capability]) {
        let visible = || capabilities.iter().filter(|capability| capability.is_visible());
        let nexts = visible().skip(1).map(|capability| capability.offset as u8).chain([0]);
        for (capability, next) in visible().zip(nexts) {
            self.fix(capability.offset, byte(config, capability.offset));
            self.fix(capability.offset + 1, next);
        }
        if let Some(first) = visible().next() {
            self.fix(LIST, first.offset as u8);
            let status =
                Cell { ours: STATUS_INTX | STATUS_LIST, value: STATUS_LIST, writable: 0, through: true };
            self.set(STATUS, status);
        }
    }

    /// Links the visible extended capabilities. The list starts where it starts, so a null capability stands in
    /// for a first one that is hidden.
    fn link_extended(&mut self, config: &[u8], capabilities: &[Capability]) {
        let visible = || capabilities.iter().filter(|capability| capability.is_visible());
        let nexts = visible().skip(1).map(|capability| capability.offset).chain([0]);
        let link = |header: u32, next: u16| header & 0xf_ffff | u32::from(next) << 20;
        let mut headers: Vec<(u16, u32)> = visible()
            .zip(nexts)
            .map(|(capability, next)| (capability.offset, link(dword(config, capability.offset), next)))
            .collect();
        let first = visible().next().map_or(0, |capability| capability.offset);
        if first != EXTENDED_START {
            headers.push((EXTENDED_START, link(0, first)));
        }
        for (offset, header) in headers {
            for (offset, value) in (offset..).zip(header.to_le_bytes()) {
                self.fix(offset, value);
            }
        }
    }
}

#[cfg(test)]
#[path = "space_test.rs"]
mod tests;
