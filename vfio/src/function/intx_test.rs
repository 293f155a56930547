use std::sync::atomic::Ordering;

use super::*;
use crate::function::fixture::{Config, Event, FakeController, FakeDevice, FakeIntx};
use devices::BusDevice;

struct Setup {
    intx: Arc<Intx>,
    line: Arc<FakeIntx>,
    device: Arc<FakeDevice>,
    ioapic: Arc<Ioapic>,
}

fn setup() -> Setup {
    let device = FakeDevice::new(Config::new(1, 2, 3), [0; 6]);
    let line = Arc::new(FakeIntx::new(device.events.clone()));
    let command = Arc::new(Command::new(device.clone(), true, false));
    let intx = Intx::new("0000:01:00.0".parse().unwrap(), InterruptPin::B, line.clone(), command);
    device.take_events();
    Setup { intx, line, device, ioapic: Ioapic::new(Arc::new(FakeController)) }
}

impl Setup {
    fn unmask_pin(&self) {
        let _ = self.ioapic.write(0, &[0x10 + 20 * 2]);
        let _ = self.ioapic.write(0x10, &0x8051u32.to_le_bytes());
    }

    fn events(&self) -> Vec<Event> {
        let events = self.device.take_events();
        events.into_iter().filter(|event| !matches!(event, Event::Config(..))).collect()
    }
}

#[test]
fn a_line_that_cannot_be_taken_is_tried_again() {
    let s = setup();
    s.line.refusing.store(true, Ordering::Relaxed);
    s.intx.attach(&s.ioapic, 20);
    s.unmask_pin();
    s.intx.resample();
    assert_eq!(s.device.take_events(), [], "and the device's INTx stays disabled");
    s.line.refusing.store(false, Ordering::Relaxed);
    s.intx.resample();
    assert_eq!(s.events(), [Event::IntxConnect]);
    s.intx.resample();
    assert_eq!(s.events(), [Event::IntxUnmask]);
}

#[test]
fn dropping_it_gives_the_interrupt_back() {
    let s = setup();
    s.intx.attach(&s.ioapic, 20);
    s.unmask_pin();
    assert_eq!((s.intx.pin(), s.events()), (InterruptPin::B, vec![Event::IntxConnect]));
    let Setup { intx, device, ioapic, .. } = s;
    drop(intx);
    ioapic.end_of_interrupt(0x51);
    let left = [Event::Config(4, vec![0x02, 0x04]), Event::IntxDisconnect];
    assert_eq!(device.take_events(), left);
}

#[test]
fn what_leads_nowhere_is_not_connected() {
    let s = setup();
    s.intx.resample();
    s.intx.exclude(true);
    s.intx.exclude(false);
    s.intx.reset();
    assert_eq!(s.device.take_events(), []);
}
