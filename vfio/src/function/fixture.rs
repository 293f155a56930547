//! Configuration spaces of real devices, and a device made of one, for tests.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use devices::irq::{InterruptController, MsiMessage, MsiVector, PinTrigger};
use devices::pci::rom::ROM_BAR;
use devices::pci::{PciAddress, VectorBackend};
use vfio_bindings::bindings::vfio::VFIO_PCI_MSI_IRQ_INDEX;
use vmm_sys_util::eventfd::EventFd;

use super::hardware::Hardware;
use super::intx::IntxLine;
use crate::info::RegionInfo;
use crate::mapping::BarMapping;
use crate::notice::Notice;

/// A configuration space under construction.
pub(crate) struct Config(pub(crate) Vec<u8>);

impl Config {
    pub(crate) fn new(vendor: u16, device: u16, class: u32) -> Self {
        let mut config = Self(vec![0; 4096]);
        config.put(0, &[vendor.to_le_bytes(), device.to_le_bytes()].concat());
        config.put(0x04, &[0x06, 0x04, 0x10, 0x00]);
        config.put(0x08, &(class << 8 | 0x02).to_le_bytes());
        config.put(0x0c, &[0x10, 0x00, 0x80, 0x00]);
        config.put(0x2c, &[0x86, 0x80, 0x01, 0x00]);
        config.put(0x30, &[0, 0, 0xfe, 0xfe]);
        config.put(0x3c, &[0x0b, 0x01, 0x07, 0x08]);
        config
    }

    pub(crate) fn put(&mut self, offset: usize, bytes: &[u8]) {
        self.0[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    /// A list of capabilities `(offset, id, body)`.
    pub(crate) fn list(mut self, capabilities: &[(u8, u8, &[u8])]) -> Self {
        let nexts = capabilities.iter().skip(1).map(|(offset, ..)| *offset).chain([0]);
        for ((offset, id, body), next) in capabilities.iter().zip(nexts) {
            self.put((*offset).into(), &[&[*id, next][..], body].concat());
        }
        self.0[0x34] = capabilities.first().map_or(0, |(offset, ..)| *offset);
        self
    }

    /// A list of extended capabilities `(offset, id, version)`, their bodies filled with 0x5a.
    pub(crate) fn extended(mut self, capabilities: &[(u16, u16, u8)]) -> Self {
        let nexts = capabilities.iter().skip(1).map(|(offset, ..)| *offset).chain([0]);
        for ((offset, id, version), next) in capabilities.iter().zip(nexts) {
            let header = u32::from(*id) | u32::from(*version) << 16 | u32::from(next) << 20;
            self.put((*offset).into(), &[&header.to_le_bytes()[..], &[0x5a; 8]].concat());
        }
        self
    }
}

const PM: &[u8] = &[0x03, 0x00, 0x08, 0x00, 0x00, 0x00];
const EXPRESS: &[u8] = &[0x02, 0x00, 0xc1, 0x8f, 0x2c, 0x10];
const MSI_WIDE_32: &[u8] = &[0x8a, 0x00];
const MSI_WIDE_1: &[u8] = &[0x80, 0x00];

/// An SSD with 33 MSI-X vectors in its only BAR.
pub(crate) fn nvme() -> Config {
    let mut config = Config::new(0x144d, 0xa808, 0x01_0802)
        .list(&[
            (0x40, 0x01, PM),
            (0x50, 0x05, MSI_WIDE_32),
            (0x70, 0x10, EXPRESS),
            (0xb0, 0x11, &[32, 0, 0x00, 0x30, 0, 0, 0x00, 0x20, 0, 0]),
        ])
        .extended(&[
            (0x100, 0x01, 2),
            (0x148, 0x03, 1),
            (0x158, 0x04, 1),
            (0x168, 0x19, 1),
            (0x188, 0x18, 1),
            (0x190, 0x1e, 1),
        ]);
    config.put(0x10, &[0x04, 0, 0x10, 0xfe, 0, 0, 0, 0]);
    config
}

/// An 82574L: four BARs, MSI-X in the last of them, the list not in the order of addresses.
pub(crate) fn e1000e() -> Config {
    let mut config = Config::new(0x8086, 0x10d3, 0x02_0000)
        .list(&[
            (0xc8, 0x01, PM),
            (0xd0, 0x05, MSI_WIDE_1),
            (0xe0, 0x10, EXPRESS),
            (0xa0, 0x11, &[4, 0, 0x03, 0, 0, 0, 0x03, 0x20, 0, 0]),
        ])
        .extended(&[(0x100, 0x01, 2), (0x140, 0x03, 1)]);
    config.put(0x10, &[0, 0, 0xe4, 0xfe, 0, 0, 0xe2, 0xfe, 0x41, 0xc0, 0, 0, 0, 0, 0xe0, 0xfe]);
    config
}

/// What was done to a device, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Config(u16, Vec<u8>),
    BarRead(u8, usize),
    BarWrite(u8, u64, Vec<u8>),
    Connect(u16),
    Disconnect,
    IntxConnect,
    IntxUnmask,
    IntxDisconnect,
    Reset,
}

/// A device without hardware.
pub(crate) struct FakeDevice {
    pub(crate) config: Mutex<Vec<u8>>,
    pub(crate) events: Arc<Mutex<Vec<Event>>>,
    regions: [Option<RegionInfo>; 7],
    /// VFIO offers INTx.
    intx: bool,
    file: std::fs::File,
}

impl FakeDevice {
    pub(crate) fn new(config: Config, sizes: [u64; 6]) -> Arc<Self> {
        let [a, b, c, d, e, f] = sizes;
        Arc::new(Self::with(config, [a, b, c, d, e, f, 0]))
    }

    /// The NVMe, with a ROM of `rom` bytes and INTx.
    pub(crate) fn with_rom_and_intx(config: Config, bar: u64, rom: u64) -> Arc<Self> {
        Arc::new(Self { intx: true, ..Self::with(config, [bar, 0, 0, 0, 0, 0, rom]) })
    }

    fn with(config: Config, sizes: [u64; 7]) -> Self {
        let file = tempfile::tempfile().unwrap();
        file.set_len(0x100_0000).unwrap();
        let region = |size| RegionInfo {
            size,
            offset: 0,
            readable: true,
            writable: true,
            mappable: true,
            sparse: None,
        };
        let regions = sizes.map(|size| (size != 0).then(|| region(size)));
        Self { config: Mutex::new(config.0), events: Arc::default(), regions, intx: false, file }
    }

    pub(crate) fn take_events(&self) -> Vec<Event> {
        std::mem::take(&mut self.events.lock().unwrap())
    }

    fn log(&self, event: Event) {
        self.events.lock().unwrap().push(event);
    }
}

impl Hardware for FakeDevice {
    fn address(&self) -> PciAddress {
        "0000:01:00.0".parse().unwrap()
    }

    fn config_size(&self) -> u64 {
        self.config.lock().unwrap().len() as u64
    }

    fn config_read(&self, offset: u16, data: &mut [u8]) {
        let config = self.config.lock().unwrap();
        data.copy_from_slice(&config[offset.into()..usize::from(offset) + data.len()]);
    }

    fn config_write(&self, offset: u16, data: &[u8]) {
        self.config.lock().unwrap()[offset.into()..usize::from(offset) + data.len()].copy_from_slice(data);
        self.log(Event::Config(offset, data.to_vec()));
    }

    fn bar(&self, index: u8) -> Option<&RegionInfo> {
        self.regions.get(usize::from(index))?.as_ref()
    }

    fn bar_read(&self, index: u8, _: u64, data: &mut [u8]) {
        data.fill(if index == ROM_BAR { 0x55 } else { 0xba });
        self.log(Event::BarRead(index, data.len()));
    }

    fn bar_write(&self, index: u8, offset: u64, data: &[u8]) {
        self.log(Event::BarWrite(index, offset, data.to_vec()));
    }

    fn map(&self, region: &RegionInfo, areas: &[Range<u64>]) -> io::Result<BarMapping> {
        BarMapping::new(&self.file, region, areas)
    }

    fn vectors(self: Arc<Self>, index: u32) -> Option<(u32, Arc<dyn VectorBackend>)> {
        let count = if index == VFIO_PCI_MSI_IRQ_INDEX { 32 } else { 2048 };
        Some((count, Arc::new(FakeBackend(self.events.clone()))))
    }

    fn intx(self: Arc<Self>) -> Option<Arc<dyn IntxLine>> {
        self.intx.then(|| Arc::new(FakeIntx::new(self.events.clone())) as Arc<dyn IntxLine>)
    }

    fn notices(self: Arc<Self>) -> Vec<Notice> {
        Vec::new()
    }

    fn reset(&self) -> io::Result<()> {
        self.log(Event::Reset);
        Ok(())
    }
}

/// An INTx that goes nowhere.
pub(crate) struct FakeIntx {
    events: Arc<Mutex<Vec<Event>>>,
    pub(crate) refusing: AtomicBool,
}

impl FakeIntx {
    pub(crate) fn new(events: Arc<Mutex<Vec<Event>>>) -> Self {
        Self { events, refusing: AtomicBool::new(false) }
    }

    fn log(&self, event: Event) -> io::Result<()> {
        self.events.lock().unwrap().push(event);
        Ok(())
    }
}

impl IntxLine for FakeIntx {
    fn connect(&self, _: &EventFd) -> io::Result<()> {
        if self.refusing.load(Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(libc::EBUSY));
        }
        self.log(Event::IntxConnect)
    }

    fn disconnect(&self) -> io::Result<()> {
        self.log(Event::IntxDisconnect)
    }

    fn unmask(&self) -> io::Result<()> {
        self.log(Event::IntxUnmask)
    }
}

struct FakeBackend(Arc<Mutex<Vec<Event>>>);

impl VectorBackend for FakeBackend {
    fn connect(&self, vectors: &[(u16, &EventFd)]) -> io::Result<()> {
        self.0.lock().unwrap().extend(vectors.iter().map(|(vector, _)| Event::Connect(*vector)));
        Ok(())
    }

    fn disconnect_all(&self) {
        self.0.lock().unwrap().push(Event::Disconnect);
    }
}

/// Vectors that go nowhere.
pub(crate) struct FakeController;

struct FakeVector(EventFd);

impl PinTrigger for FakeVector {
    fn eventfd(&self) -> &EventFd {
        &self.0
    }
}

impl MsiVector for FakeVector {
    fn eventfd(&self) -> &EventFd {
        &self.0
    }

    fn number(&self) -> u32 {
        0
    }

    fn set_message(&self, _: Option<MsiMessage>) -> io::Result<()> {
        Ok(())
    }
}

impl InterruptController for FakeController {
    fn msi_vector(&self) -> io::Result<Arc<dyn MsiVector>> {
        Ok(Arc::new(FakeVector(EventFd::new(libc::EFD_NONBLOCK)?)))
    }

    fn set_messages(&self, _: &[(u32, Option<MsiMessage>)]) -> io::Result<()> {
        Ok(())
    }

    fn signal_msi(&self, _: MsiMessage) -> io::Result<()> {
        Ok(())
    }

    fn set_ioapic_route(&self, _: u8, _: Option<MsiMessage>) -> io::Result<()> {
        Ok(())
    }

    fn pin_trigger(&self, _: u8) -> io::Result<Box<dyn PinTrigger>> {
        Ok(Box::new(FakeVector(EventFd::new(libc::EFD_NONBLOCK)?)))
    }
}
