use proptest::prelude::*;

use super::fixture::{Config, Event, FakeController, FakeDevice, e1000e, nvme};
use super::space::{COMMAND, COMMAND_INTX_DISABLE};
use super::*;
use devices::BusDevice;
use devices::ioapic::Ioapic;

const NVME_BARS: [u64; 6] = [0x4000, 0, 0, 0, 0, 0];
const E1000E_BARS: [u64; 6] = [0x2_0000, 0x2_0000, 0x20, 0x4000, 0, 0];
const MEMORY_AND_MASTER: [u8; 2] = [0x06, 0];

fn function(config: Config, bars: [u64; 6]) -> (PassthroughFunction, Arc<FakeDevice>) {
    let device = FakeDevice::new(config, bars);
    let controller: Arc<dyn InterruptController> = Arc::new(FakeController);
    (PassthroughFunction::new(device.clone(), &controller).unwrap(), device)
}

fn read(function: &PassthroughFunction, offset: u16) -> u32 {
    let mut data = [0; 4];
    function.config_read(offset, &mut data);
    u32::from_le_bytes(data)
}

fn write(function: &PassthroughFunction, offset: u16, data: &[u8]) {
    assert_eq!(function.config_write(offset, data), Action::None);
}

fn command(value: u16) -> Event {
    Event::Config(COMMAND, value.to_le_bytes().to_vec())
}

/// Unmasks a vector as Linux does: address, data, then the mask bit.
fn unmask(function: &PassthroughFunction, bar: u8, table: u64, vector: u64) {
    for (register, value) in [(0, 0xfee0_0000u32), (4, 0), (8, 0x4041), (12, 0)] {
        let _ = function.bar_write(bar, table + vector * 16 + register, &value.to_le_bytes());
    }
}

#[test]
fn errors_are_reported_as_the_host_has_it_whatever_the_guest_writes() {
    let mut config = nvme();
    config.put(0x04, &[0x46, 0x05]);
    let (function, device) = function(config, NVME_BARS);
    assert_eq!(device.take_events(), [command(0x0542)]);
    assert_eq!(read(&function, 0x04) & 0xffff, 0, "which the guest does not see");
    write(&function, COMMAND, &MEMORY_AND_MASTER);
    assert_eq!(device.take_events(), [command(0x0546)]);
}

#[test]
fn an_ssd_as_the_guest_finds_it() {
    let (function, device) = function(nvme(), NVME_BARS);
    // Memory enabled underneath, no bus mastering, no INTx.
    assert_eq!(device.take_events(), [command(0x0402)]);
    let window =
        BarWindow { index: 0, space: BarSpace::Memory64, prefetchable: false, address: 0, size: 0x4000 };
    assert_eq!(function.bars(), [window]);
    assert_eq!(function.decoded(), []);

    // The pages of the table (0x3000) and of the pending bits (0x2000) are trapped.
    let areas = function.mapped_areas(0);
    assert_eq!(areas.iter().map(|area| (area.offset, area.size)).collect::<Vec<_>>(), [(0, 0x2000)]);
    assert!(function.mapped_areas(1).is_empty() && function.mapped_areas(200).is_empty());

    write(&function, 0x10, &[0xff; 4]);
    write(&function, 0x14, &[0xff; 4]);
    assert_eq!((read(&function, 0x10), read(&function, 0x14)), (0xffff_c004, 0xffff_ffff));
    function.place_bar(0, 0x40_0000_0000);
    write(&function, COMMAND, &MEMORY_AND_MASTER);
    assert_eq!(device.take_events(), [command(0x0406)]);
    assert_eq!(function.decoded(), [BarWindow { address: 0x40_0000_0000, ..window }]);
    assert_eq!(read(&function, 0x04) & 0xffff, 0x0006);
}

#[test]
fn a_device_that_is_gone_is_refused() {
    let controller: Arc<dyn InterruptController> = Arc::new(FakeController);
    let device = FakeDevice::new(Config(vec![0xff; 4096]), NVME_BARS);
    let error = PassthroughFunction::new(device, &controller).err().unwrap();
    assert_eq!(error.to_string(), "0000:01:00.0 does not answer");
}

#[test]
fn decoding_off_stays_with_the_guest() {
    let (function, device) = function(e1000e(), E1000E_BARS);
    device.take_events();
    write(&function, COMMAND, &[0x07, 0]);
    assert_eq!(function.decoded().len(), 4);
    write(&function, COMMAND, &[0x01, 0]);
    assert_eq!(function.decoded().iter().map(|window| window.index).collect::<Vec<_>>(), [2]);
    assert_eq!(device.take_events(), [command(0x0407), command(0x0403)]);
}

#[test]
fn port_io_and_small_bars_are_trapped() {
    let (function, device) = function(e1000e(), [0x2_0000, 0x800, 0x20, 0x4000, 0, 0]);
    assert_eq!(function.mapped_areas(0).len(), 1);
    assert!(function.mapped_areas(1).is_empty() && function.mapped_areas(2).is_empty());
    device.take_events();
    let _ = function.bar_write(2, 4, &[1, 2, 3, 4]);
    assert_eq!(device.take_events(), [Event::BarWrite(2, 4, vec![1, 2, 3, 4])]);
    let mut data = [0; 2];
    function.bar_read(1, 0, &mut data);
    assert_eq!((data, device.take_events()), ([0xba; 2], vec![Event::BarRead(1, 2)]));
}

#[test]
fn msix_vectors_are_wired_when_unmasked() {
    let (function, device) = function(nvme(), NVME_BARS);
    device.take_events();
    write(&function, 0xb2, &[0x00, 0x80]);
    assert_eq!(read(&function, 0xb0), 0x8020_0011);
    unmask(&function, 0, 0x3000, 0);
    unmask(&function, 0, 0x3000, 32);
    unmask(&function, 0, 0x3000, 33);
    // Past the table the access is the device's, which has none of its own in the page.
    let past = device.take_events();
    assert_eq!(past[..2], [Event::Connect(0), Event::Connect(32)]);
    assert!(past[2..].iter().all(|event| matches!(event, Event::BarWrite(0, 0x3210.., _))));

    let mut entry = [0; 4];
    function.bar_read(0, 0x3000 + 32 * 16 + 8, &mut entry);
    assert_eq!(u32::from_le_bytes(entry), 0x4041);
    // Vectors 0 and 32 are not pending; the device's own bits tell of the others.
    function.bar_read(0, 0x2000, &mut entry);
    assert_eq!(entry, [0xba, 0xba, 0xba, 0xba]);
    function.bar_read(0, 0x2004, &mut entry);
    assert_eq!(entry, [0, 0, 0, 0]);
    assert_eq!(device.take_events(), [Event::BarRead(0, 4), Event::BarRead(0, 4)]);

    write(&function, 0xb2, &[0x00, 0x00]);
    assert_eq!(device.take_events(), [Event::Disconnect]);
}

#[test]
fn msi_vectors_are_wired_when_enabled() {
    let (function, device) = function(e1000e(), E1000E_BARS);
    device.take_events();
    write(&function, 0xd4, &0xfee0_1000u32.to_le_bytes());
    write(&function, 0xdc, &0x4051u16.to_le_bytes());
    write(&function, 0xd2, &[0x81, 0x00]);
    assert_eq!(device.take_events(), [Event::Connect(0)]);
    assert_eq!((read(&function, 0xd0) >> 16, read(&function, 0xd4)), (0x0081, 0xfee0_1000));
    write(&function, 0xd2, &[0x80, 0x00]);
    assert_eq!(device.take_events(), [Event::Disconnect]);
}

#[test]
fn a_broken_msix_capability_is_hidden() {
    let mut config = nvme();
    config.put(0xb4, &[0x05, 0x30, 0, 0]);
    let (function, _) = function(config, NVME_BARS);
    assert_eq!(read(&function, 0x70) >> 8 & 0xff, 0);
    assert_eq!(read(&function, 0xb0), 0);
    let [area] = function.mapped_areas(0)[..] else { panic!("one area") };
    assert_eq!((area.offset, area.size), (0, 0x4000));
}

#[test]
fn nothing_is_decoded_while_the_device_sleeps() {
    let (function, _device) = function(nvme(), NVME_BARS);
    write(&function, COMMAND, &MEMORY_AND_MASTER);
    write(&function, 0x44, &[0x03, 0x00]);
    assert_eq!(function.decoded(), []);
    write(&function, 0x44, &[0x00, 0x00]);
    assert_eq!(function.decoded().len(), 1);
}

#[test]
fn a_reset_puts_everything_back() {
    let (function, device) = function(nvme(), NVME_BARS);
    let before: Vec<u32> = (0..4096).step_by(4).map(|offset| read(&function, offset)).collect();
    function.place_bar(0, 0x8000_0000);
    write(&function, COMMAND, &MEMORY_AND_MASTER);
    write(&function, 0xb2, &[0x00, 0x80]);
    unmask(&function, 0, 0x3000, 3);
    write(&function, 0x3c, &[11]);
    device.take_events();

    function.reset().unwrap();
    assert_eq!(device.take_events(), [command(0x0402), Event::Disconnect, Event::Reset, command(0x0402)]);
    let after: Vec<u32> = (0..4096).step_by(4).map(|offset| read(&function, offset)).collect();
    assert_eq!(before, after);
    let mut entry = [0; 4];
    function.bar_read(0, 0x3000 + 3 * 16 + 12, &mut entry);
    assert_eq!(entry, [1, 0, 0, 0]);
}

#[test]
fn a_guest_that_resets_the_function_finds_it_reset() {
    let express = 0x70;
    let written = Event::Config(express + 8, vec![0x00, 0x90]);
    let mut config = nvme();
    config.put(0x77, &[0x00]);
    let (incapable, device) = function(config, NVME_BARS);
    write(&incapable, express + 8, &[0x00, 0x90]);
    assert_eq!(device.take_events(), [command(0x0402), written.clone()]);

    let (function, device) = function(nvme(), NVME_BARS);
    let before: Vec<u32> = (0..0x40).step_by(4).map(|offset| read(&function, offset)).collect();
    function.place_bar(0, 0x8000_0000);
    write(&function, COMMAND, &MEMORY_AND_MASTER);
    write(&function, 0xb2, &[0x00, 0x80]);
    unmask(&function, 0, 0x3000, 3);
    write(&function, express + 8, &[0x00, 0x10]);
    assert_eq!(function.decoded().len(), 1);
    device.take_events();

    write(&function, express + 8, &[0x00, 0x90]);
    assert_eq!(device.take_events(), [command(0x0402), Event::Disconnect, written, command(0x0402)]);
    assert_eq!(function.decoded(), []);
    let after: Vec<u32> = (0..0x40).step_by(4).map(|offset| read(&function, offset)).collect();
    assert_eq!(before, after);
}

#[test]
fn dropping_it_stops_the_device() {
    let (function, device) = function(nvme(), NVME_BARS);
    write(&function, COMMAND, &MEMORY_AND_MASTER);
    write(&function, 0xb2, &[0x00, 0x80]);
    unmask(&function, 0, 0x3000, 0);
    device.take_events();
    drop(function);
    assert_eq!(device.take_events(), [command(0x0402), Event::Disconnect]);
}

/// The NVMe with INTx, on pin 17 of an I/O APIC, and a ROM.
fn with_intx() -> (PassthroughFunction, Arc<FakeDevice>, Arc<Ioapic>) {
    let device = FakeDevice::with_rom_and_intx(nvme(), 0x4000, 0x1_0000);
    let controller: Arc<dyn InterruptController> = Arc::new(FakeController);
    let function = PassthroughFunction::new(device.clone(), &controller).unwrap();
    let ioapic = Ioapic::new(controller);
    function.connect_interrupt(&ioapic, 17);
    (function, device, ioapic)
}

/// Writes the low half of an I/O APIC entry: level-triggered, vector 0x51.
fn program(ioapic: &Ioapic, pin: u8, masked: bool) {
    let value: u32 = 1 << 15 | u32::from(masked) << 16 | 0x51;
    let _ = ioapic.write(0, &[0x10 + pin * 2]);
    let _ = ioapic.write(0x10, &value.to_le_bytes());
}

#[test]
fn intx_is_connected_when_the_guest_unmasks_its_pin() {
    let (function, device, ioapic) = with_intx();
    assert_eq!(function.interrupt_pin(), Some(InterruptPin::A));
    assert_eq!(read(&function, 0x3c) & 0xffff, 0x0111, "INTA#, and where firmware says it leads");
    write(&function, COMMAND, &MEMORY_AND_MASTER);
    assert_eq!(device.take_events(), [command(0x0402), command(0x0406)]);
    program(&ioapic, 17, true);
    assert_eq!(device.take_events(), []);
    program(&ioapic, 17, false);
    assert_eq!(device.take_events(), [Event::IntxConnect, command(0x0006)]);
    ioapic.end_of_interrupt(0x51);
    assert_eq!(device.take_events(), [Event::IntxUnmask]);
    // The guest masks the device itself.
    write(&function, COMMAND, &[0x06, 0x04]);
    write(&function, COMMAND, &[0x06, 0x00]);
    assert_eq!(device.take_events(), [command(0x0406), command(0x0006)]);
}

#[test]
fn a_guest_that_resets_the_function_keeps_its_intx() {
    let (function, device, ioapic) = with_intx();
    program(&ioapic, 17, false);
    device.take_events();
    write(&function, 0x78, &[0x00, 0x80]);
    let events = device.take_events();
    let disconnected = events.iter().position(|event| *event == Event::IntxDisconnect);
    let connected = events.iter().position(|event| *event == Event::IntxConnect);
    assert!(disconnected.is_some() && disconnected < connected, "{events:?}");
    ioapic.end_of_interrupt(0x51);
    assert_eq!(device.take_events(), [Event::IntxUnmask]);
}

#[test]
fn messages_exclude_intx() {
    let (function, device, ioapic) = with_intx();
    write(&function, 0xb2, &[0x00, 0x80]);
    program(&ioapic, 17, false);
    unmask(&function, 0, 0x3000, 0);
    assert_eq!(device.take_events(), [command(0x0402), Event::Connect(0)]);
    write(&function, 0xb2, &[0x00, 0x00]);
    assert_eq!(device.take_events(), [Event::Disconnect, Event::IntxConnect, command(0x0002)]);
    write(&function, 0xb2, &[0x00, 0x80]);
    let off = [command(0x0402), Event::IntxDisconnect];
    let events = device.take_events();
    assert_eq!((&events[..2], &events[2..]), (&off[..], &[Event::Connect(0)][..]));
    // Nor is INTx wanted while its pin is masked.
    program(&ioapic, 17, true);
    write(&function, 0xb2, &[0x00, 0x00]);
    assert_eq!(device.take_events(), [Event::Disconnect]);
}

#[test]
fn a_reset_takes_intx_off_the_machine() {
    let (function, device, ioapic) = with_intx();
    program(&ioapic, 17, false);
    device.take_events();
    function.reset().unwrap();
    let stopped = [command(COMMAND_INTX_DISABLE | 2), Event::IntxDisconnect, Event::Reset];
    assert_eq!(device.take_events(), [&[command(0x0002)], &stopped[..], &[command(0x0402)]].concat());
    assert_eq!(read(&function, 0x3c) & 0xffff, 0x0100);
    ioapic.end_of_interrupt(0x51);
    program(&ioapic, 17, true);
    program(&ioapic, 17, false);
    assert_eq!(device.take_events(), []);
    // The next run has a new I/O APIC.
    let ioapic = Ioapic::new(Arc::new(FakeController));
    function.connect_interrupt(&ioapic, 18);
    program(&ioapic, 18, false);
    assert_eq!(device.take_events(), [Event::IntxConnect, command(0x0002)]);
    assert_eq!(read(&function, 0x3c) & 0xff, 18);
}

#[test]
fn without_intx_there_is_no_pin() {
    let (function, device) = function(nvme(), NVME_BARS);
    let ioapic = Ioapic::new(Arc::new(FakeController));
    device.take_events();
    function.connect_interrupt(&ioapic, 17);
    program(&ioapic, 17, false);
    assert_eq!((function.interrupt_pin(), read(&function, 0x3c) & 0xffff), (None, 0));
    assert_eq!(device.take_events(), []);
}

#[test]
fn the_rom_is_read_once() {
    let (function, device, _ioapic) = with_intx();
    device.take_events();
    write(&function, 0x30, &[0xff; 4]);
    assert_eq!(read(&function, 0x30), 0xffff_0001);
    function.place_bar(6, 0xd100_0000);
    write(&function, COMMAND, &[0x02, 0]);
    let (space, address) = (BarSpace::Memory32, 0xd100_0000);
    let window = BarWindow { index: 6, space, prefetchable: false, address, size: 0x1_0000 };
    assert!(function.decoded().contains(&window));
    assert!(function.mapped_areas(6).is_empty());
    device.take_events();
    let mut data = [0; 4];
    function.bar_read(6, 0, &mut data);
    function.bar_read(6, 0xfffc, &mut data);
    assert_eq!(data, [0x55; 4]);
    function.bar_read(6, 0xfffe, &mut data);
    assert_eq!(data, [0x55, 0x55, 0xff, 0xff]);
    assert_eq!(device.take_events(), [Event::BarRead(6, 0x1_0000)]);
    assert_eq!(function.bar_write(6, 0, &[1]), Action::None);
    assert_eq!(device.take_events(), []);
}

#[test]
fn devices_with_quirks_get_what_they_need() {
    let mut config = nvme();
    config.put(0, &[0x25, 0x14, 0x07, 0x58]);
    config.put(0xb8, &[0x00, 0x80, 0, 0]);
    let (function, _) = function(config, NVME_BARS);
    assert_eq!(read(&function, 0xb8), 0x1000, "the pending bits where they are");

    let mut config = nvme();
    config.put(0, &[0xe4, 0x14, 0x8e, 0x16]);
    let device = FakeDevice::with_rom_and_intx(config, 0x4000, 0x1_0000);
    let controller: Arc<dyn InterruptController> = Arc::new(FakeController);
    let function = PassthroughFunction::new(device, &controller).unwrap();
    write(&function, 0x30, &[0xff; 4]);
    assert_eq!(read(&function, 0x30), 0, "no ROM");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_device_and_no_guest_breaks_it(
        config in proptest::collection::vec(any::<u8>(), 4096..=4096),
        orders in any::<[u8; 6]>(),
        accesses in proptest::collection::vec((any::<bool>(), any::<u8>(), any::<u32>(), any::<u64>()), 0..64),
    ) {
        let mut config = Config(config);
        config.0[0] = 0;
        config.0[0x06] |= 0x10;
        config.0[0x34] = 0x40;
        config.put(0x40, &[0x11, 0x60]);
        config.put(0x60, &[0x05, 0x80]);
        let (function, _device) = function(config, orders.map(|order| (1 << (order % 24)) & !0xf));
        for (config, bar, offset, value) in accesses {
            let length = [1, 2, 4][offset as usize % 3];
            let mut data = value.to_le_bytes()[..length].to_vec();
            if config {
                let offset = (offset % 4096 / length as u32 * length as u32) as u16;
                let _ = function.config_write(offset, &data);
                function.config_read(offset, &mut data);
            } else {
                let _ = function.bar_write(bar % 8, value >> (offset % 64), &data);
                function.bar_read(bar % 8, value >> (offset % 64), &mut data);
            }
            prop_assert!(function.decoded().len() <= function.bars().len());
        }
        prop_assert!(function.reset().is_ok());
        prop_assert!(function.decoded().is_empty());
    }
}
