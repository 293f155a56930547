use std::sync::Arc;

use super::*;
use crate::ioapic::Ioapic;
use crate::testing::FakeController;

const PIN: u8 = 5;
/// IOREGSEL and IOWIN, and the low half of the pin's redirection entry.
const SELECT: u64 = 0;
const WINDOW: u64 = 0x10;
const ENTRY: u8 = 0x10 + 2 * PIN;

struct Setup {
    controller: Arc<FakeController>,
    ioapic: Arc<Ioapic>,
    register: EventRegister,
}

impl Setup {
    fn new() -> Self {
        let controller = FakeController::new();
        let ioapic = Ioapic::new(controller.clone());
        let register = EventRegister::new(ioapic.line(PIN));
        Self { controller, ioapic, register }
    }

    /// As the guest's driver does when it is ready.
    fn listen(&self) {
        for (offset, data) in [(SELECT, vec![ENTRY]), (WINDOW, 0x35_u32.to_le_bytes().to_vec())] {
            assert_eq!(self.ioapic.write(offset, &data), Action::None);
        }
    }

    fn interrupts(&self) -> usize {
        self.controller.signalled.lock().unwrap().len()
    }

    fn read(&self) -> u8 {
        let mut data = [0xff];
        self.register.read(0, &mut data);
        data[0]
    }
}

#[test]
fn nobody_listens_before_the_driver_does() {
    let setup = Setup::new();
    assert!(!setup.register.is_listened_to());
    setup.listen();
    assert!(setup.register.is_listened_to());
}

#[test]
fn an_event_interrupts_and_is_read_once() {
    let setup = Setup::new();
    setup.listen();
    setup.register.raise(1);
    assert_eq!((setup.interrupts(), setup.read(), setup.read()), (1, 1, 0));
}

#[test]
fn events_add_up_until_they_are_read() {
    let setup = Setup::new();
    setup.listen();
    setup.register.raise(1);
    setup.register.raise(2);
    assert_eq!((setup.interrupts(), setup.read()), (2, 3));
}

#[test]
fn the_guest_cannot_set_events() {
    let setup = Setup::new();
    assert_eq!(setup.register.write(0, &[0xff]), Action::None);
    let mut data = [0xff; 4];
    setup.register.read(0, &mut data);
    assert_eq!(data, [0; 4]);
}
