//! What a PC has besides PCI: serial port, interrupt controller, clock, and the ports that end it.

use std::sync::Arc;

use devices::ioapic::Ioapic;
use devices::legacy::{EventRegister, acpi, debug_exit, event, i8042, rtc};
use devices::serial::{self, SerialPort};
use devices::{Bus, BusDevice};
use memory::{GuestRange, layout};

use crate::Input;
use crate::fakes::controller;

/// So many actions make one input.
const MOST_STEPS: usize = 500;
/// Where the ports of ACPI are, here.
const ACPI: u64 = 0x600;

pub(super) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (mmio, pio) = (Bus::new("mmio"), Bus::new("pio"));
    let ioapic = Ioapic::new(controller());
    let serial = Arc::new(SerialPort::new(ioapic.line(serial::COM1_IRQ), Box::new(std::io::sink())).unwrap());
    let events = Arc::new(EventRegister::new(ioapic.line(5)));
    // Any time there may be, from the input.
    let seconds = input.qword();
    let clock = rtc::Rtc::with_clock(Box::new(move || std::time::Duration::from_secs(seconds >> 8)));
    mmio.insert(layout::IOAPIC, ioapic.clone()).unwrap();
    let ports: [(u64, u64, Arc<dyn BusDevice>); 7] = [
        (serial::COM1, serial::PORTS, serial.clone()),
        (ACPI, acpi::SLEEP_REGISTERS_SIZE, Arc::new(acpi::SleepRegisters)),
        (ACPI + 2, acpi::RESET_REGISTER_SIZE, Arc::new(acpi::ResetRegister)),
        (ACPI + 3, event::EVENT_REGISTER_SIZE, events.clone()),
        (rtc::PORT, rtc::PORTS, Arc::new(clock)),
        (i8042::PORT, i8042::PORTS, Arc::new(i8042::KeyboardReset)),
        (debug_exit::PORT, debug_exit::PORTS, Arc::new(debug_exit::DebugExit)),
    ];
    for (port, size, device) in ports {
        pio.insert(GuestRange::new(port, size), device).unwrap();
    }
    for _ in 0..MOST_STEPS {
        if input.is_empty() {
            break;
        }
        match input.byte() % 8 {
            0..3 => {
                let place = u64::from(input.byte());
                let port = match place % 4 {
                    0 | 1 => serial::COM1 + (place >> 2 & 7),
                    2 => rtc::PORT + (place >> 2 & 1),
                    _ => ACPI + (place >> 2 & 3),
                };
                access(&pio, port, &mut input);
            }
            3 => access(&pio, input.word().into(), &mut input.clone()),
            4 => access(&mmio, layout::IOAPIC.start + u64::from(input.byte() & 0x1f), &mut input),
            5 => {
                let length = input.byte();
                let accepted = serial.push_input(input.bytes(length.into()));
                assert!(accepted <= serial::FIFO_SIZE && accepted <= length.into());
                let _ = (serial.input_room(), serial.is_listening());
            }
            6 => {
                let (pin, how) = (input.byte() % 32, input.byte());
                match how % 5 {
                    0 | 1 => ioapic.set_line(pin, how & 1 != 0),
                    2 => ioapic.pulse(pin),
                    3 => ioapic.end_of_interrupt(pin),
                    _ => drop(ioapic.is_masked(pin)),
                }
            }
            _ => match input.byte() % 8 {
                0 => serial.reset(),
                1 => ioapic.reset(),
                _ => events.raise(input.byte()),
            },
        }
    }
}

fn access(bus: &Bus, address: u64, input: &mut Input) {
    let mut data = input.access(8);
    let _ = bus.write(address, &data);
    bus.read(address, &mut data);
}
