use std::sync::atomic::Ordering;
use std::time::Duration;

use super::super::fixture::{Setup, mem32, setup};
use super::super::{Devfn, PciBusError};
use super::*;
use crate::testing::FakeFunction;

const LONG: Duration = Duration::from_secs(60);
const ENDPOINT: Devfn = Devfn::new(0, 0);
/// The PCIe capability.
const EXPRESS: u16 = 0x60;
const LINK: u16 = EXPRESS + 0x10;
const SLOT: u16 = EXPRESS + 0x18;
const STATUS: u16 = SLOT + 2;
/// Every enable, power on and off.
const ON: u16 = 0x113f;
const OFF: u16 = 0x173f;

fn function() -> Arc<FakeFunction> {
    FakeFunction::new(&[mem32(0, 0x1000)])
}

impl Setup {
    /// A port with this device number, driven by a guest.
    fn driven(&self, device: u8, occupied: bool) -> (Devfn, Arc<RootPort>, Option<Arc<FakeFunction>>) {
        let bars: &[_] = if occupied { &[mem32(0, 0x1000)] } else { &[] };
        let (devfn, function) = self.port(device, bars);
        self.bus.assign_bars().unwrap();
        // MSI to 0xfee0_1000 with data 0x45, enabled.
        self.write(0, devfn, 0x4c, 0xfee0_1000);
        self.write(0, devfn, 0x54, 0x45);
        self.write_word(0, devfn, 0x4a, 1);
        self.write_word(0, devfn, SLOT, if occupied { ON } else { OFF });
        self.write_word(0, devfn, STATUS, u16::MAX);
        self.interrupts();
        (devfn, self.bus.port(devfn).unwrap(), function)
    }

    /// How many interrupts came since it was asked last.
    fn interrupts(&self) -> u64 {
        self.controller
            .alive()
            .iter()
            .map(|vector| crate::irq::MsiVector::eventfd(&**vector).read().unwrap_or(0))
            .sum()
    }

    fn word(&self, devfn: Devfn, offset: u16) -> u16 {
        let mut data = [0; 2];
        self.bus.config_read(0, devfn, offset, &mut data);
        u16::from_le_bytes(data)
    }
}

#[test]
fn the_port_says_what_it_is() {
    let s = setup();
    let (port, _) = s.port(5, &[]);
    assert_eq!((s.read(0, port, 0), s.read(0, port, 8) >> 8), (0x000c_1b36, 0x06_0400));
    // Power management, MSI, PCIe.
    assert_eq!((s.word(port, 6) & 0x10, s.word(port, 0x34) & 0xff), (0x10, 0x40));
    assert_eq!([0x40, 0x48, EXPRESS].map(|at| s.word(port, at)), [0x4801, 0x6005, 0x0010]);
    assert_eq!(s.word(port, EXPRESS + 2), 0x0142, "version 2, root port, with a slot");
    let link = s.read(0, port, EXPRESS + 0xc);
    assert_eq!(link, 0x0550_0205, "32 GT/s, 32 lanes, reports its state, port 5");
    assert_eq!(s.read(0, port, EXPRESS + 0x14), 5 << 19 | 0x7b);
    assert_eq!(s.read(0, port, EXPRESS + 0x2c), 0x3e, "2.5 to 32 GT/s");
    assert_eq!(s.read(0, port, 0x100), 0, "no extended capabilities");
    for offset in (EXPRESS..EXPRESS + 0x3c).step_by(4) {
        s.write(0, port, offset, u32::MAX);
    }
    for (offset, expected) in [
        (0x00, 0x0142_0010),
        (0x08, 0x00ef),
        (0x10, 0x00d0),
        (0x1c, 0x0007),
        (0x28, 0),
        (0x30, 0x000f),
        (0x38, 0),
    ] {
        assert_eq!(s.read(0, port, EXPRESS + offset), expected, "{offset:#x}");
    }
}

#[test]
fn the_link_is_the_card_s() {
    let s = setup();
    let (port, _) = s.port(5, &[]);
    s.bus.assign_bars().unwrap();
    let function = function();
    let mut express = [0; 0x3a];
    express[0x10..0x12].copy_from_slice(&0x1083_u16.to_le_bytes());
    function.config.lock().unwrap().add_capability(0x10, &express, &[]).unwrap();
    s.bus.insert(port, vec![(0, function)]).unwrap();
    assert_eq!(s.word(port, LINK + 2), 0, "down");
    s.write_word(0, port, SLOT, ON);
    assert_eq!(s.word(port, LINK + 2), 0x2083, "8 GT/s, 8 lanes, active");
    assert_eq!(Link { speed: 9, width: 63 }.bits(), Link::MOST.bits());
}

#[test]
fn a_card_is_plugged_in() {
    let s = setup();
    let (port, _, _) = s.driven(5, false);
    s.bus.insert(port, vec![(0, function())]).unwrap();
    assert_eq!((s.interrupts(), s.word(port, STATUS)), (1, 0x0049));
    assert_eq!(s.read(1, ENDPOINT, 0), u32::MAX, "no power yet");
    s.write_word(0, port, STATUS, 0x0009);
    s.write_word(0, port, SLOT, ON);
    assert_eq!((s.interrupts(), s.word(port, STATUS)), (1, 0x0150));
    assert_eq!(s.read(1, ENDPOINT, 0), 0x5678_1234);
    let again = s.bus.insert(port, vec![(0, function())]).unwrap_err();
    assert_eq!(again, PciBusError::Occupied(port.address()));
    assert_eq!(s.read(1, ENDPOINT, 0), 0x5678_1234);
}

#[test]
fn a_card_is_let_go_of() {
    let s = setup();
    let (devfn, port, function) = s.driven(5, true);
    let function = function.unwrap();
    std::thread::scope(|scope| {
        let departure = scope.spawn(|| port.eject(LONG));
        while s.word(devfn, STATUS) & 1 == 0 {
            std::thread::yield_now();
        }
        assert_eq!(s.interrupts(), 1);
        s.write_word(0, devfn, STATUS, 1);
        s.write_word(0, devfn, SLOT, OFF & !0x0300 | 0x0200);
        assert_eq!(function.resets.load(Ordering::Relaxed), 1, "no power");
        s.write_word(0, devfn, SLOT, OFF);
        assert_eq!(departure.join().unwrap(), Departure::Gone);
    });
    assert_eq!(s.word(devfn, STATUS) & 0x0048, 0x0008);
    assert_eq!(
        s.bus.insert(devfn, vec![(0, FakeFunction::new(&[]))]).unwrap_err(),
        PciBusError::Occupied(devfn.address())
    );
    assert_eq!(s.bus.remove(devfn).len(), 1);
    assert_eq!(Arc::strong_count(&function), 1, "nobody holds on to it");
    s.bus.insert(devfn, vec![(0, function)]).unwrap();
    assert_eq!(s.bus.remove(devfn).len(), 1);
}

#[test]
fn a_guest_that_does_not_answer_keeps_the_card() {
    let s = setup();
    let (devfn, port, _) = s.driven(5, true);
    let kept = port.eject(Duration::from_millis(1));
    let Departure::Kept(state) = kept else { panic!("{kept:?}") };
    assert!(state.linked && state.listening && state.powered && !state.blinking);
    assert_eq!(s.read(1, ENDPOINT, 0), 0x5678_1234);
    // Too late: without power it stays where it is, and goes when it is asked again.
    s.write_word(0, devfn, SLOT, OFF);
    assert_eq!((s.read(1, ENDPOINT, 0), s.word(devfn, STATUS) & 0x40), (u32::MAX, 0x40));
    assert_eq!(port.eject(Duration::ZERO), Departure::Gone);
}

#[test]
fn nobody_waits_for_a_guest_that_is_gone() {
    let s = setup();
    let (_, port, _) = s.driven(5, true);
    std::thread::scope(|scope| {
        let departure = scope.spawn(|| port.eject(LONG));
        port.give_up();
        assert_eq!(departure.join().unwrap(), Departure::Over);
    });
}

#[test]
fn a_pulled_card_is_gone_at_once() {
    let s = setup();
    let (devfn, port, function) = s.driven(5, true);
    port.pull();
    assert_eq!((s.interrupts(), s.word(devfn, STATUS)), (1, 0x0108));
    assert_eq!(s.read(1, ENDPOINT, 0), u32::MAX);
    assert_eq!(s.bus.remove(devfn).len(), 1);
    assert_eq!(Arc::strong_count(&function.unwrap()), 1);
}

#[test]
fn registers_are_written_in_pieces_as_well() {
    let s = setup();
    let (devfn, _, _) = s.driven(5, false);
    s.bus.insert(devfn, vec![(0, function())]).unwrap();
    // The upper byte of slot control: the power. The lower one is as it was.
    assert_eq!(s.bus.config_write(0, devfn, SLOT + 1, &[0x11]), Action::None);
    assert_eq!((s.word(devfn, SLOT), s.word(devfn, STATUS)), (0x113f, 0x0159));
    // All four bytes: clear what was, and a command.
    s.write(0, devfn, SLOT, 0x0159_113f);
    assert_eq!(s.word(devfn, STATUS), 0x0050);
    // The upper byte of the status clears the link's event and nothing else.
    s.write_word(0, devfn, LINK, 0x10);
    assert_eq!(s.word(devfn, STATUS), 0x0150);
    assert_eq!(s.bus.config_write(0, devfn, STATUS + 1, &[0xff]), Action::None);
    assert_eq!(s.word(devfn, STATUS), 0x0050);
}

#[test]
fn an_interrupt_while_it_is_masked_is_pending() {
    let s = setup();
    let (devfn, _, _) = s.driven(5, false);
    let (mask, pending) = (0x58, 0x5c);
    s.write(0, devfn, mask, 1);
    s.bus.insert(devfn, vec![(0, function())]).unwrap();
    assert_eq!(s.read(0, devfn, pending), 1);
    s.interrupts();
    assert_eq!(s.read(0, devfn, pending), 0);
    // Without MSI there is nobody to tell.
    s.write_word(0, devfn, 0x4a, 0);
    s.write_word(0, devfn, STATUS, u16::MAX);
    s.write_word(0, devfn, SLOT, ON);
    assert!(s.controller.alive().is_empty());
}

#[test]
fn power_states_that_do_not_exist_are_not_entered() {
    let s = setup();
    let (port, _) = s.port(5, &[]);
    for (written, read) in [(1, 8), (2, 8), (3, 0xb), (1, 0xb), (0, 8)] {
        s.write_word(0, port, 0x44, written);
        assert_eq!(s.word(port, 0x44), read, "{written}");
    }
}
