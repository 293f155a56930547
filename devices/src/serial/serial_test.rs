use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};

use super::*;
use crate::ioapic::Ioapic;
use crate::testing::FakeController;

const LSR: u64 = 5;
const LSR_DATA: u8 = 1;

#[derive(Clone, Default)]
struct Screen(Arc<Mutex<Vec<u8>>>, Arc<AtomicBool>);

impl Write for Screen {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.1.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.0.lock().unwrap().extend(data);
        Ok(data.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Setup {
    port: SerialPort,
    controller: Arc<FakeController>,
    screen: Screen,
}

fn setup() -> Setup {
    let (controller, screen) = (FakeController::new(), Screen::default());
    let ioapic = Ioapic::new(controller.clone());
    let _ = ioapic.write(0, &[0x10 + COM1_IRQ * 2]);
    let _ = ioapic.write(0x10, &[0x24, 0, 0, 0]);
    let port = SerialPort::new(ioapic.line(COM1_IRQ), Box::new(screen.clone())).unwrap();
    Setup { port, controller, screen }
}

impl Setup {
    fn get(&self, register: u64) -> u8 {
        let mut data = [0];
        self.port.read(register, &mut data);
        data[0]
    }

    fn set(&self, register: u8, value: u8) {
        assert_eq!(self.port.write(register.into(), &[value]), Action::None);
    }

    fn interrupts(&self) -> usize {
        std::mem::take(&mut *self.controller.signalled.lock().unwrap()).len()
    }

    fn was_drained(&self) -> bool {
        self.port.drained().read().is_ok()
    }

    /// What Linux does on an interrupt: everything the line status register offers.
    fn handle_interrupt(&self, into: &mut Vec<u8>) {
        while self.get(IIR.into()) & IIR_NONE == 0 {
            while self.get(LSR) & LSR_DATA != 0 {
                into.push(self.get(0));
            }
        }
    }
}

#[test]
fn sends_what_the_guest_writes() {
    let s = setup();
    s.set(IER, 0);
    b"boot\n".iter().for_each(|byte| s.set(0, *byte));
    assert_eq!((s.screen.0.lock().unwrap().as_slice(), s.interrupts()), (b"boot\n".as_slice(), 0));
    assert_eq!(s.get(LSR), 0x60, "always ready for more");
}

#[test]
fn transmitter_interrupts_come_once_each() {
    let s = setup();
    s.set(IER, IER_TRANSMITTED);
    assert_eq!(s.interrupts(), 1, "enabling finds the transmitter empty");
    s.set(0, b'a');
    assert_eq!(s.interrupts(), 0, "not acknowledged yet");
    assert_eq!(s.get(IIR.into()), 0xc2);
    assert_eq!(s.get(IIR.into()), 0xc1);
    s.set(0, b'b');
    assert_eq!((s.interrupts(), s.get(IIR.into())), (1, 0xc2));
}

#[test]
fn input_interrupts_and_drains() {
    let s = setup();
    s.set(IER, IER_RECEIVED);
    assert_eq!(s.port.input_room(), FIFO_SIZE);
    assert_eq!(s.port.push_input(b"ls\r"), 3);
    assert_eq!((s.interrupts(), s.port.input_room()), (1, FIFO_SIZE - 3));
    assert!(!s.was_drained());
    let mut got = Vec::new();
    s.handle_interrupt(&mut got);
    assert_eq!(got, b"ls\r");
    assert!(s.was_drained() && !s.was_drained());
    assert_eq!(s.port.input_room(), FIFO_SIZE);
}

#[test]
fn a_full_fifo_accepts_no_more_and_loses_nothing() {
    let s = setup();
    let long: Vec<u8> = (0..100).collect();
    assert_eq!(s.port.push_input(&long), FIFO_SIZE);
    assert_eq!((s.port.push_input(&long), s.port.input_room()), (0, 0));
    assert_eq!(s.port.push_input(&[]), 0);
    let got: Vec<u8> = (0..FIFO_SIZE).map(|_| s.get(0)).collect();
    assert_eq!(got, long[..FIFO_SIZE]);
    assert_eq!((s.get(LSR) & LSR_DATA, s.get(0)), (0, 0), "empty");
}

#[test]
fn input_from_before_the_driver_interrupts_when_it_enables() {
    let s = setup();
    assert_eq!(s.port.push_input(b"x"), 1);
    assert_eq!(s.interrupts(), 0);
    s.set(IER, IER_RECEIVED);
    assert_eq!(s.interrupts(), 1);
    s.set(IER, 0);
    s.set(IER, IER_RECEIVED);
    assert_eq!(s.get(IIR.into()), 0xc4);
}

#[test]
fn a_byte_an_interrupt_reads_everything_as_well() {
    let s = setup();
    s.set(IER, IER_RECEIVED);
    assert_eq!(s.port.push_input(b"abc"), 3);
    let mut got = Vec::new();
    while s.get(IIR.into()) == 0xc4 {
        got.push(s.get(0));
    }
    assert_eq!(got, b"abc");
}

#[test]
fn received_data_comes_first_and_the_transmitter_is_not_forgotten() {
    let s = setup();
    s.set(IER, IER_RECEIVED | IER_TRANSMITTED);
    assert_eq!(s.port.push_input(b"a"), 1);
    assert_eq!(s.get(IIR.into()), 0xc4);
    s.get(0);
    assert_eq!(s.get(IIR.into()), 0xc2);
    assert_eq!(s.get(IIR.into()), 0xc1);
}

#[test]
fn the_reader_learns_when_the_guest_begins_to_listen() {
    let s = setup();
    // As Linux looks for the port: not a driver that listens.
    s.set(IER, 0x0f);
    assert!(!s.port.is_listening() && !s.was_drained());
    s.set(IER, 0);
    s.set(MCR, MCR_OUT2);
    assert!(!s.port.is_listening() && !s.was_drained());
    s.set(IER, IER_RECEIVED);
    assert!(s.port.is_listening() && s.was_drained());
    s.set(IER, IER_RECEIVED | IER_TRANSMITTED);
    assert!(!s.was_drained());
    s.set(IER, 0);
    assert!(!s.port.is_listening());
}

#[test]
fn loopback_keeps_the_terminal_out() {
    let s = setup();
    s.set(MCR, MCR_LOOP | 0x0a);
    assert_eq!(s.get(6) & 0xf0, 0x90, "modem lines are looped back");
    assert_eq!((s.port.input_room(), s.port.push_input(b"typed")), (0, 0));
    s.set(0, 0x5a);
    assert_eq!((s.get(0), s.screen.0.lock().unwrap().len()), (0x5a, 0));
    let _ = s.was_drained();
    s.set(MCR, MCR_OUT2);
    assert!(s.was_drained(), "the reader of the terminal goes on");
    assert_eq!(s.port.push_input(b"typed"), 5);
}

#[test]
fn linux_finds_a_16550a() {
    let s = setup();
    s.set(IER, 0);
    assert_eq!(s.get(IER.into()), 0);
    s.set(IER, 0xff);
    assert_eq!(s.get(IER.into()) & 0xf0, 0);
    s.set(IER, 0);
    s.set(2, 0x07);
    assert_eq!(s.get(IIR.into()) >> 6, 3);
    s.set(SCR, 0xae);
    assert_eq!(s.get(SCR.into()), 0xae);
    s.set(LCR, LCR_DLAB | LCR_8N1);
    s.set(0, 1);
    assert_eq!((s.get(0), s.get(1)), (1, 0));
}

#[test]
fn reset_keeps_unread_input() {
    let s = setup();
    assert_eq!(s.port.push_input(b"next"), 4);
    s.set(LCR, LCR_DLAB);
    s.set(MCR, MCR_LOOP);
    s.port.reset();
    assert_eq!((s.get(IER.into()), s.get(LCR.into()), s.get(MCR.into()), s.get(SCR.into())), (0, 3, 0, 0));
    let mut got = Vec::new();
    while s.get(LSR) & LSR_DATA != 0 {
        got.push(s.get(0));
    }
    assert_eq!(got, b"next");
}

#[test]
fn a_broken_output_does_not_stop_the_guest() {
    let s = setup();
    s.screen.1.store(true, Ordering::Relaxed);
    s.set(IER, IER_TRANSMITTED);
    s.get(IIR.into());
    let _ = s.interrupts();
    s.set(0, b'a');
    assert_eq!(s.interrupts(), 1);
    s.screen.1.store(false, Ordering::Relaxed);
    s.set(0, b'b');
    assert_eq!(s.screen.0.lock().unwrap().as_slice(), b"b");
}

#[test]
fn wide_accesses_touch_the_registers_in_turn() {
    let s = setup();
    assert_eq!(s.port.write(LCR.into(), &[LCR_8N1, 0x0b]), Action::None);
    let mut data = [0; 2];
    s.port.read(LCR.into(), &mut data);
    assert_eq!(data, [LCR_8N1, 0x0b]);
    assert_eq!(s.port.write(0, &[b'x', 0, 0, LCR_8N1, 0x0b, 0, 0, 0]), Action::None);
    assert_eq!(s.screen.0.lock().unwrap().as_slice(), b"x");
}

#[test]
fn a_paste_of_64_kib_arrives_whole() {
    let s = setup();
    s.set(IER, IER_RECEIVED);
    let paste: Vec<u8> = (0..64 << 10).map(|i: u32| (i.wrapping_mul(2654435761) >> 24) as u8).collect();
    let (done, finished) = mpsc::channel();
    let got = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut rest = paste.as_slice();
            while !rest.is_empty() {
                rest = &rest[s.port.push_input(rest)..];
                // As the terminal's event loop does: nothing more until the guest has drained its port.
                while s.port.input_room() == 0 && !s.was_drained() {
                    std::thread::yield_now();
                }
            }
        });
        let (s, expected) = (&s, paste.len());
        let guest = scope.spawn(move || {
            let mut got = Vec::new();
            while got.len() < expected {
                if s.interrupts() > 0 {
                    s.handle_interrupt(&mut got);
                }
                std::thread::yield_now();
            }
            done.send(()).unwrap();
            got
        });
        finished.recv_timeout(std::time::Duration::from_secs(60)).unwrap();
        guest.join().unwrap()
    });
    assert!(got == paste);
}

/// A reader that takes nothing until it is let.
struct Slow(mpsc::Sender<()>, mpsc::Receiver<()>);

impl Write for Slow {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.send(()).unwrap();
        self.1.recv().unwrap();
        Ok(data.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn while_output_waits_for_its_reader_registers_and_input_do_not() {
    let (waits, waiting) = mpsc::channel();
    let (goes, go) = mpsc::channel();
    let ioapic = Ioapic::new(FakeController::new());
    let port = SerialPort::new(ioapic.line(COM1_IRQ), Box::new(Slow(waits, go))).unwrap();
    std::thread::scope(|scope| {
        let sends = scope.spawn(|| port.write(0, b"x"));
        waiting.recv().unwrap();
        assert!(!port.is_listening());
        let _ = port.write(IER.into(), &[IER_RECEIVED]);
        let _ = port.write(MCR.into(), &[MCR_OUT2]);
        assert!(port.is_listening());
        assert_eq!(port.push_input(b"typed"), 5);
        let mut data = [0];
        port.read(0, &mut data);
        assert_eq!(data, *b"t");
        goes.send(()).unwrap();
        assert_eq!(sends.join().unwrap(), Action::None);
    });
}
