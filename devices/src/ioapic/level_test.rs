use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::BusDevice;
use crate::testing::FakeController;

const LEVEL: u32 = 1 << 15;
const MASK: u32 = 1 << 16;

/// Counts how often it is asked, and does something each time.
#[derive(Default)]
struct Device {
    asked: AtomicUsize,
    then: Mutex<Option<Box<dyn Fn() + Send + Sync>>>,
}

impl LevelSource for Device {
    fn resample(&self) {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if let Some(then) = &*self.then.lock().unwrap() {
            then();
        }
    }
}

impl Device {
    fn asked(&self) -> usize {
        self.asked.swap(0, Ordering::Relaxed)
    }
}

fn attach(ioapic: &Arc<Ioapic>, pin: u8) -> (Arc<Device>, LevelLine) {
    let device = Arc::new(Device::default());
    let weak: Weak<dyn LevelSource> = Arc::downgrade(&(device.clone() as Arc<dyn LevelSource>));
    let line = LevelLine::attach(ioapic, pin, weak);
    (device, line)
}

fn program(ioapic: &Ioapic, pin: u8, low: u32, high: u32) {
    for (register, value) in [(0x11 + pin * 2, high), (0x10 + pin * 2, low)] {
        let _ = ioapic.write(0, &[register]);
        let _ = ioapic.write(0x10, &value.to_le_bytes());
    }
}

#[test]
fn unmasking_asks_for_what_was_missed() {
    let ioapic = Ioapic::new(FakeController::new());
    let (device, line) = attach(&ioapic, 17);
    program(&ioapic, 17, MASK | LEVEL | 0x51, 0);
    assert_eq!((device.asked(), line.is_open()), (0, false), "still masked");
    program(&ioapic, 17, LEVEL | 0x51, 0);
    assert_eq!((device.asked(), line.is_open()), (1, true));
    program(&ioapic, 17, LEVEL | 0x51, 0);
    program(&ioapic, 18, LEVEL | 0x51, 0);
    assert_eq!(device.asked(), 0, "nothing changed here");
    program(&ioapic, 17, LEVEL | 0x52, 0);
    assert_eq!(device.asked(), 1, "the end of the old vector's interrupt would go unseen");
    ioapic.reset();
    assert_eq!((device.asked(), line.is_open()), (0, false));
}

#[test]
fn the_end_of_an_interrupt_asks_everyone_on_the_line() {
    let ioapic = Ioapic::new(FakeController::new());
    let (one, _line) = attach(&ioapic, 17);
    let (other, other_line) = attach(&ioapic, 17);
    let (elsewhere, _elsewhere) = attach(&ioapic, 19);
    program(&ioapic, 17, LEVEL | 0x51, 0);
    program(&ioapic, 19, LEVEL | 0x52, 0);
    assert_eq!((one.asked(), other.asked(), elsewhere.asked()), (1, 1, 1));
    ioapic.end_of_interrupt(0x51);
    assert_eq!((one.asked(), other.asked(), elsewhere.asked()), (1, 1, 0));
    drop(other_line);
    assert_eq!(ioapic.write(0x40, &[0x51]), crate::Action::None);
    assert_eq!((one.asked(), other.asked()), (1, 0), "the register ends it, too");
    program(&ioapic, 17, MASK | LEVEL | 0x51, 0);
    ioapic.end_of_interrupt(0x51);
    assert_eq!(one.asked(), 0, "it would raise a masked pin for nothing");
}

#[test]
fn an_emulated_device_may_be_on_the_line() {
    let controller = FakeController::new();
    let ioapic = Ioapic::new(controller.clone());
    let (device, _line) = attach(&ioapic, 17);
    let emulated = ioapic.line(17);
    program(&ioapic, 17, LEVEL | 0x51, 0);
    device.asked();
    emulated.raise();
    ioapic.end_of_interrupt(0x51);
    assert_eq!((device.asked(), controller.signalled.lock().unwrap().len()), (1, 2));
}

#[test]
fn a_device_may_use_its_line_when_asked() {
    let controller = FakeController::new();
    let ioapic = Ioapic::new(controller.clone());
    let (device, line) = attach(&ioapic, 17);
    let triggers = Arc::new(Mutex::new(Vec::new()));
    let (line, made) = (Arc::new(line), triggers.clone());
    let for_device = line.clone();
    *device.then.lock().unwrap() = Some(Box::new(move || {
        assert!(for_device.is_open());
        made.lock().unwrap().push(for_device.trigger().unwrap());
    }));
    program(&ioapic, 17, LEVEL | 0x51, 0);
    assert_eq!((device.asked(), &controller.triggers.lock().unwrap()[..]), (1, &[17][..]));
    triggers.lock().unwrap().clear();
    assert!(controller.triggers.lock().unwrap().is_empty());
    assert_eq!(format!("{line:?}"), "LevelLine { pin: 17, .. }");
}

#[test]
fn a_device_that_is_gone_is_not_asked() {
    let ioapic = Ioapic::new(FakeController::new());
    let (device, _line) = attach(&ioapic, 17);
    drop(device);
    program(&ioapic, 17, LEVEL | 0x51, 0);
    ioapic.end_of_interrupt(0x51);
}
