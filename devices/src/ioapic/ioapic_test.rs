use proptest::prelude::*;

use super::*;
use crate::testing::FakeController;

const LEVEL: u32 = 1 << 15;
const MASK: u32 = 1 << 16;
const REMOTE_IRR: u32 = 1 << 14;

struct Setup {
    ioapic: Arc<Ioapic>,
    controller: Arc<FakeController>,
}

fn setup() -> Setup {
    let controller = FakeController::new();
    Setup { ioapic: Ioapic::new(controller.clone()), controller }
}

impl Setup {
    fn write(&self, register: u8, value: u32) {
        assert_eq!(self.ioapic.write(IOREGSEL, &u32::from(register).to_le_bytes()), Action::None);
        assert_eq!(self.ioapic.write(IOWIN, &value.to_le_bytes()), Action::None);
    }

    fn read(&self, register: u8) -> u32 {
        assert_eq!(self.ioapic.write(IOREGSEL, &u32::from(register).to_le_bytes()), Action::None);
        let mut data = [0; 4];
        self.ioapic.read(IOWIN, &mut data);
        u32::from_le_bytes(data)
    }

    fn program(&self, pin: u8, low: u32, high: u32) {
        self.write(0x11 + pin * 2, high);
        self.write(0x10 + pin * 2, low);
    }

    fn low(&self, pin: u8) -> u32 {
        self.read(0x10 + pin * 2)
    }

    fn sent(&self) -> Vec<(u64, u32)> {
        let sent = std::mem::take(&mut *self.controller.signalled.lock().unwrap());
        sent.iter().map(|message| (message.address, message.data)).collect()
    }

    fn route(&self, pin: u8) -> Option<(u64, u32)> {
        self.controller.routes.lock().unwrap().get(&pin).map(|message| (message.address, message.data))
    }
}

#[test]
fn identifies_itself() {
    let s = setup();
    assert_eq!(s.read(1), 0x0017_0020);
    s.write(0, u32::MAX);
    assert_eq!((s.read(0), s.read(2)), (0x0f00_0000, 0x0f00_0000));
    s.write(1, 0);
    assert_eq!(s.read(1), 0x0017_0020);
    assert!((0..PINS).all(|pin| (s.low(pin), s.read(0x11 + pin * 2)) == (MASK, 0)));
    for register in [3, 0xf, 0x40, 0xff] {
        s.write(register, u32::MAX);
        assert_eq!(s.read(register), 0);
    }
}

#[test]
fn an_edge_is_sent_once() {
    let s = setup();
    s.program(4, 0x34, 0x0300_0000);
    s.ioapic.set_line(4, true);
    s.ioapic.set_line(4, true);
    assert_eq!(s.sent(), [(0xfee0_3000, 0x34)]);
    s.ioapic.set_line(4, false);
    assert_eq!(s.sent(), []);
    s.ioapic.pulse(4);
    assert_eq!(s.sent(), [(0xfee0_3000, 0x34)]);
}

#[test]
fn an_edge_while_masked_is_lost() {
    let s = setup();
    s.program(4, MASK | 0x34, 0);
    s.ioapic.pulse(4);
    s.program(4, 0x34, 0);
    assert_eq!(s.sent(), []);
    s.ioapic.set_line(4, true);
    assert_eq!(s.sent(), [(0xfee0_0000, 0x34)]);
    s.program(4, MASK | 0x34, 0);
    s.program(4, 0x34, 0);
    assert_eq!(s.sent(), [], "an asserted line is no new edge");
}

#[test]
fn a_level_is_sent_again_at_its_end_while_it_lasts() {
    let s = setup();
    s.program(9, LEVEL | 0x51, 0);
    let message = (0xfee0_0000, 0xc051);
    s.ioapic.set_line(9, true);
    assert_eq!((s.sent(), s.low(9)), (vec![message], LEVEL | REMOTE_IRR | 0x51));
    s.ioapic.set_line(9, true);
    assert_eq!(s.sent(), [], "being handled");
    s.ioapic.end_of_interrupt(0x52);
    assert_eq!(s.sent(), [], "another vector");
    s.ioapic.end_of_interrupt(0x51);
    assert_eq!(s.sent(), [message]);
    s.ioapic.set_line(9, false);
    assert_eq!(s.ioapic.write(EOI, &0x51u32.to_le_bytes()), Action::None);
    assert_eq!((s.sent(), s.low(9)), (vec![], LEVEL | 0x51));
}

#[test]
fn a_level_waits_for_its_mask() {
    let s = setup();
    s.program(9, MASK | LEVEL | 0x51, 0);
    s.ioapic.set_line(9, true);
    assert_eq!(s.sent(), []);
    s.program(9, LEVEL | 0x51, 0);
    assert_eq!(s.sent().len(), 1);
}

#[test]
fn a_pin_masked_while_handled_still_learns_of_the_end() {
    let s = setup();
    s.program(9, LEVEL | 0x51, 0);
    s.ioapic.set_line(9, true);
    s.program(9, MASK | LEVEL | 0x51, 0);
    assert_eq!(s.route(9), Some((0xfee0_0000, 0xc051)));
    s.ioapic.end_of_interrupt(0x51);
    assert_eq!((s.route(9), s.low(9)), (None, MASK | LEVEL | 0x51));
    assert_eq!(s.sent().len(), 1);
    s.program(9, LEVEL | 0x51, 0);
    assert_eq!((s.sent().len(), s.route(9).is_some()), (1, true));
}

#[test]
fn turning_to_edge_forgets_a_stuck_interrupt() {
    let s = setup();
    s.program(9, LEVEL | 0x51, 0);
    s.ioapic.set_line(9, true);
    s.program(9, MASK | 0x51, 0);
    assert_eq!(s.low(9), MASK | 0x51);
}

#[test]
fn messages_carry_mode_and_destination() {
    let s = setup();
    for (low, high, message) in [
        (0x0000_0041, 0xff00_0000, Some((0xfeef_f000, 0x041))),
        (0x0000_0941, 0x0100_0000, Some((0xfee0_100c, 0x141))),
        (0x0000_0041, 0x01fe_0000, Some((0xfee0_1fe0, 0x041))),
        (0x0000_8141, 0x0000_0000, Some((0xfee0_0008, 0xc141))),
        (0x0000_8400, 0x0000_0000, Some((0xfee0_0000, 0x400))),
        (0x0000_2041, 0x0000_0000, Some((0xfee0_0000, 0x041))),
        (0x0000_0700, 0x0000_0000, None),
        (0x0000_0300, 0x0000_0000, None),
    ] {
        s.program(0, low, high);
        assert_eq!(s.route(0), message, "{high:#x} {low:#x}");
        s.ioapic.pulse(0);
        assert_eq!(s.sent(), Vec::from_iter(message), "{high:#x} {low:#x}");
        s.ioapic.reset();
    }
}

#[test]
fn the_hypervisor_is_told_of_changes_only() {
    let s = setup();
    let changes = || *s.controller.route_changes.lock().unwrap();
    (0..PINS).for_each(|pin| s.program(pin, MASK | u32::from(pin), 0));
    assert_eq!(changes(), 0, "still masked");
    s.program(1, 0x30, 0);
    s.program(1, 0x30, 0);
    assert_eq!(changes(), 1);
    s.write(0x13, 0x0200_0000);
    assert_eq!((changes(), s.route(1)), (2, Some((0xfee0_2000, 0x30))));
    s.ioapic.reset();
    assert_eq!((changes(), s.route(1)), (3, None));
}

#[test]
fn stray_accesses_do_nothing() {
    let s = setup();
    s.program(2, 0x30, 0);
    s.ioapic.set_line(24, true);
    s.ioapic.set_line(255, true);
    s.ioapic.line(200).pulse();
    for (offset, size) in [(IOWIN, 1), (IOWIN, 2), (4, 4), (0x20, 4), (0xffc, 8), (u64::MAX, 1)] {
        assert_eq!(s.ioapic.write(offset, &vec![0xff; size]), Action::None);
        let mut data = vec![0; size];
        s.ioapic.read(offset, &mut data);
    }
    assert_eq!((s.low(2), s.sent()), (0x30, vec![]));
    let mut byte = [0];
    s.ioapic.read(IOREGSEL, &mut byte);
    assert_eq!(byte, [0x14]);
}

#[test]
fn a_line_is_its_pin() {
    let s = setup();
    let line = s.ioapic.line(5);
    s.program(5, LEVEL | 0x60, 0);
    line.raise();
    assert_eq!((line.pin(), s.sent().len()), (5, 1));
    line.lower();
    s.ioapic.end_of_interrupt(0x60);
    line.pulse();
    assert_eq!(s.sent().len(), 1);
}

#[derive(Clone, Debug)]
enum Op {
    Low(u8, u32),
    High(u8, u32),
    Line(u8, bool),
    Eoi(u8),
    Reset,
}

fn any_op() -> impl Strategy<Value = Op> {
    let pin = 0u8..3;
    // Few vectors, so that ends of interrupts hit; all trigger modes, masks and delivery modes.
    let low = (0u32..4, 0u32..8, any::<bool>(), any::<bool>(), any::<u32>()).prop_map(
        |(v, mode, level, mask, rest)| {
            let mode = if rest & 1 == 0 { 0 } else { mode };
            v | mode << 8 | if level { LEVEL } else { 0 } | if mask { MASK } else { 0 } | rest & 0xfffe_6800
        },
    );
    prop_oneof![
        4 => (pin.clone(), low).prop_map(|(p, v)| Op::Low(p, v)),
        1 => (pin.clone(), any::<u32>()).prop_map(|(p, v)| Op::High(p, v)),
        6 => (pin, any::<bool>()).prop_map(|(p, v)| Op::Line(p, v)),
        4 => (0u8..4).prop_map(Op::Eoi),
        1 => Just(Op::Reset),
    ]
}

/// One pin as the data sheet tells it.
#[derive(Clone, Copy)]
struct Model {
    low: u32,
    high: u32,
    asserted: bool,
    in_service: bool,
}

impl Model {
    const RESET: Self = Self { low: MASK, high: 0, asserted: false, in_service: false };

    fn level(&self) -> bool {
        self.low & LEVEL != 0 && self.low >> 8 & 7 < 2
    }

    fn sends(&self) -> bool {
        matches!(self.low >> 8 & 7, 0 | 1 | 2 | 4 | 5)
    }

    /// Whether a level-triggered pin sends now.
    fn settle(&mut self) -> usize {
        if !self.level() {
            self.in_service = false;
            return 0;
        }
        let fires = self.asserted && self.low & MASK == 0 && !self.in_service;
        self.in_service |= fires;
        usize::from(fires)
    }
}

proptest! {
    #[test]
    fn behaves_like_the_model(ops in prop::collection::vec(any_op(), 0..100)) {
        let s = setup();
        let mut pins = [Model::RESET; 3];
        for op in ops {
            let mut expected = 0;
            match op {
                Op::Low(pin, value) => {
                    s.write(0x10 + pin * 2, value);
                    let pin = &mut pins[usize::from(pin)];
                    pin.low = value & 0x1_afff;
                    expected += pin.settle();
                }
                Op::High(pin, value) => {
                    s.write(0x11 + pin * 2, value);
                    pins[usize::from(pin)].high = value & 0xfffe_0000;
                }
                Op::Line(pin, asserted) => {
                    s.ioapic.set_line(pin, asserted);
                    let pin = &mut pins[usize::from(pin)];
                    let rising = asserted && !pin.asserted;
                    pin.asserted = asserted;
                    let edge = !pin.level() && rising && pin.low & MASK == 0 && pin.sends();
                    expected += usize::from(edge) + pin.settle();
                }
                Op::Eoi(vector) => {
                    s.ioapic.end_of_interrupt(vector);
                    for pin in &mut pins {
                        if pin.in_service && pin.low as u8 == vector {
                            pin.in_service = false;
                            expected += pin.settle();
                        }
                    }
                }
                Op::Reset => {
                    s.ioapic.reset();
                    pins = pins.map(|pin| Model { asserted: pin.asserted, ..Model::RESET });
                }
            }
            prop_assert_eq!(s.sent().len(), expected);
            for (number, pin) in pins.iter().enumerate() {
                let irr = if pin.in_service { REMOTE_IRR } else { 0 };
                prop_assert_eq!(s.low(number as u8), pin.low | irr);
                prop_assert_eq!(s.read(0x11 + number as u8 * 2), pin.high);
                let routed = pin.sends() && (pin.low & MASK == 0 || pin.in_service);
                prop_assert_eq!(s.route(number as u8).is_some(), routed);
            }
        }
    }
}
