//! A 16550A serial port (National Semiconductor PC16550D) on vm-superio's register model.
//!
//! Output is written byte by byte as the guest sends it. Input is pushed by whoever reads the terminal: as much as
//! there is room for, then again when [`SerialPort::drained`] is signalled, so that nothing is lost however fast
//! one pastes.

use std::convert::Infallible;
use std::fmt::Display;
use std::io::{self, Write};
use std::sync::Mutex;

use vm_superio::serial::SerialEvents;
use vm_superio::{Serial, Trigger};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::ioapic::IrqLine;
use crate::sync::lock;
use crate::{Action, BusDevice};

/// First port of COM1.
pub const COM1: u64 = 0x3f8;
/// Interrupt of COM1.
pub const COM1_IRQ: u8 = 4;
/// Number of ports.
pub const PORTS: u64 = 8;
/// Bytes of input the guest can have waiting.
pub const FIFO_SIZE: usize = 64;

const IER: u8 = 1;
const IIR: u8 = 2;
const LCR: u8 = 3;
const MCR: u8 = 4;
const SCR: u8 = 7;

const IER_RECEIVED: u8 = 1 << 0;
const IER_TRANSMITTED: u8 = 1 << 1;
const IIR_FIFOS: u8 = 0xc0;
const IIR_NONE: u8 = 0x01;
const IIR_TRANSMITTED: u8 = 0x02;
const IIR_RECEIVED: u8 = 0x04;
const LCR_8N1: u8 = 0x03;
const LCR_DLAB: u8 = 0x80;
const MCR_OUT2: u8 = 1 << 3;
const MCR_LOOP: u8 = 1 << 4;
const DIVISOR_9600: u8 = 12;

/// A serial port. As a [`BusDevice`] it is its eight ports.
pub struct SerialPort {
    /// Taken before the state by who sends, so that bytes go out in order. While its reader takes its time the registers, and the input, are
    /// free.
    output: Mutex<Box<dyn Write + Send>>,
    state: Mutex<State>,
    drained: EventFd,
}

struct State {
    uart: Serial<Wire, Drained, Outbox>,
    loopback: bool,
    /// A transmitter interrupt the guest has not been told of, because received data came first.
    transmitted: bool,
    complained: bool,
}

impl SerialPort {
    /// A port that interrupts through `line` and sends to `output`, which should block rather than fail: a byte
    /// that cannot be written is lost. Fails when no eventfd is to be had.
    pub fn new(line: IrqLine, output: Box<dyn Write + Send>) -> io::Result<Self> {
        let drained = EventFd::new(EFD_NONBLOCK)?;
        let uart = Serial::with_events(Wire(line), Drained(drained.try_clone()?), Outbox::default());
        let mut state = State { uart, loopback: false, transmitted: false, complained: false };
        // vm-superio begins with OUT2 set, a real port with all outputs off.
        state.write(MCR, 0);
        Ok(Self { output: Mutex::new(output), state: Mutex::new(state), drained })
    }

    /// Bytes that [`SerialPort::push_input`] would accept now.
    pub fn input_room(&self) -> usize {
        lock(&self.state).input_room()
    }

    /// Whether the guest's driver takes input: it has enabled receive interrupts, and the output that lets them out of
    /// a PC's port (OUT2). Input pushed earlier is lost: drivers clear the FIFO when they start, and write all of the
    /// interrupt register to see what the port is.
    pub fn is_listening(&self) -> bool {
        lock(&self.state).is_listening()
    }

    /// Hands input to the guest and gives the number of bytes accepted, from the front.
    pub fn push_input(&self, input: &[u8]) -> usize {
        let mut state = lock(&self.state);
        let accepted = input.get(..state.input_room()).unwrap_or(input);
        if accepted.is_empty() {
            return 0;
        }
        let pushed = state.uart.enqueue_raw_bytes(accepted);
        state.complain(pushed).unwrap_or(0)
    }

    /// Signalled whenever the guest has read all its input, when it begins to listen, and when it takes input again
    /// after a loopback test.
    /// Non-blocking; the reader of the terminal reads it and pushes on.
    pub fn drained(&self) -> &EventFd {
        &self.drained
    }

    /// Registers as after power-on. Input that the guest has not read stays.
    pub fn reset(&self) {
        let mut state = lock(&self.state);
        state.transmitted = false;
        for (register, value) in
            [(LCR, LCR_DLAB), (0, DIVISOR_9600), (1, 0), (LCR, LCR_8N1), (IER, 0), (MCR, 0), (SCR, 0)]
        {
            state.write(register, value);
        }
        state.uart.read(IIR);
    }
}

impl State {
    fn input_room(&self) -> usize {
        if self.loopback { 0 } else { self.uart.fifo_capacity() }
    }

    fn is_listening(&self) -> bool {
        let state = self.uart.state();
        state.interrupt_enable & IER_RECEIVED != 0 && state.modem_control & (MCR_OUT2 | MCR_LOOP) == MCR_OUT2
    }

    fn read(&mut self, register: u8) -> u8 {
        if register == IIR { self.identify_interrupt() } else { self.uart.read(register) }
    }

    fn write(&mut self, register: u8, value: u8) {
        let listened = self.is_listening();
        let written = self.uart.write(register, value);
        self.complain(written);
        if !listened && self.is_listening() {
            self.uart.events().in_buffer_empty();
        }
        if register == MCR {
            let before = std::mem::replace(&mut self.loopback, value & MCR_LOOP != 0);
            if before && !self.loopback {
                self.uart.events().in_buffer_empty();
            }
        }
    }

    /// vm-superio forgets both interrupts when IIR is read and can report both at once, which means a line error.
    /// A real port reports one, received data first for as long as there is any, and a driver that reads a byte
    /// an interrupt depends on it.
    fn identify_interrupt(&mut self) -> u8 {
        let pending = self.uart.read(IIR) & !IIR_FIFOS;
        let enabled = self.uart.state().interrupt_enable;
        let transmitted = self.transmitted || pending & (IIR_TRANSMITTED | IIR_NONE) == IIR_TRANSMITTED;
        let received = self.uart.fifo_capacity() < FIFO_SIZE && enabled & IER_RECEIVED != 0;
        self.transmitted = transmitted && received;
        let cause = if received {
            IIR_RECEIVED
        } else if transmitted && enabled & IER_TRANSMITTED != 0 {
            IIR_TRANSMITTED
        } else {
            IIR_NONE
        };
        IIR_FIFOS | cause
    }

    fn complain<T>(&mut self, outcome: Result<T, impl Display>) -> Option<T> {
        match outcome {
            Ok(value) => Some(value),
            Err(error) => {
                if !std::mem::replace(&mut self.complained, true) {
                    tracing::warn!(%error, "serial port loses data");
                }
                None
            }
        }
    }
}

impl BusDevice for SerialPort {
    fn read(&self, offset: u64, data: &mut [u8]) {
        let mut state = lock(&self.state);
        for (register, byte) in (offset as u8..).zip(data) {
            *byte = state.read(register);
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> Action {
        let mut output = (offset == 0).then(|| lock(&self.output));
        let mut state = lock(&self.state);
        for (register, byte) in (offset as u8..).zip(data) {
            state.write(register, *byte);
        }
        let sent = std::mem::take(state.uart.writer_mut());
        drop(state);
        let sent = sent.bytes.get(..sent.length).unwrap_or_default();
        if let (Some(output), false) = (&mut output, sent.is_empty()) {
            let written = output.write_all(sent);
            if written.is_err() {
                lock(&self.state).complain(written);
            }
        }
        Action::None
    }
}

/// Interrupts are edges: the register model says when there is a new one.
struct Wire(IrqLine);

impl Trigger for Wire {
    type E = Infallible;

    fn trigger(&self) -> Result<(), Infallible> {
        self.0.pulse();
        Ok(())
    }
}

/// What one access sends.
#[derive(Default)]
struct Outbox {
    bytes: [u8; PORTS as usize],
    length: usize,
}

impl Write for Outbox {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.bytes.get_mut(self.length..).unwrap_or_default();
        let length = room.len().min(bytes.len());
        room.iter_mut().zip(bytes).for_each(|(place, byte)| *place = *byte);
        self.length += length;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Drained(EventFd);

impl SerialEvents for Drained {
    fn buffer_read(&self) {}
    fn out_byte(&self) {}
    fn tx_lost_byte(&self) {}

    fn in_buffer_empty(&self) {
        if let Err(error) = self.0.write(1) {
            // Only a counter that is full refuses, and then the reader is awake already.
            tracing::debug!(%error, "serial port cannot signal that it was drained");
        }
    }
}

#[cfg(test)]
#[path = "serial_test.rs"]
mod tests;
