//! A passed-through device whose configuration space says anything, under a guest that writes anything to it.
//!
//! An input is what the device is like, 24 bytes; the length of its configuration space, and that; and what the guest does.

use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use devices::pci::{PciAddress, PciFunction, VectorBackend};
use vfio::Notice;
use vfio::function::{BarMapping, Hardware, IntxLine, PassthroughFunction, RegionInfo};
use vmm_sys_util::eventfd::EventFd;

use super::pci::Machine;
use super::virtio::memfd;
use crate::Input;
use crate::fakes::Backend;

/// So many actions make one input.
const MOST_STEPS: usize = 200;
/// BARs and ROM.
const REGIONS: usize = 7;

struct Device {
    config: Mutex<Vec<u8>>,
    regions: [Option<RegionInfo>; REGIONS],
    vectors: Option<u32>,
    intx: bool,
    file: std::fs::File,
}

impl Device {
    fn new(input: &mut Input) -> Self {
        let flags = input.byte();
        let vectors = u32::from(input.word());
        let regions = std::array::from_fn(|_| {
            let (shift, kind, sparse) = (input.byte() & 63, input.byte(), input.byte());
            let size = 1_u64 << shift | if kind & 1 != 0 { u64::from(sparse) << 8 } else { 0 };
            let area = |page: u8| u64::from(page) << 12..u64::from(page + 3) << 12;
            (kind & 2 != 0).then(|| RegionInfo {
                size,
                offset: if kind & 4 != 0 { 0 } else { u64::from(sparse) << 12 },
                readable: kind & 8 == 0,
                writable: kind & 16 == 0,
                mappable: kind & 32 == 0,
                sparse: (kind & 64 != 0).then(|| vec![area(sparse >> 4), area(sparse & 15)]),
            })
        });
        let length = usize::from(input.word() % 4097);
        let mut config = input.bytes(length).to_vec();
        // Configuration space is 256 or 4096 bytes to the kernel, but what if not?
        config.resize(length.max(64), 0);
        let file = memfd();
        file.set_len(1 << 24).unwrap();
        Self {
            config: Mutex::new(config),
            regions,
            vectors: (flags & 1 == 0).then_some(vectors),
            intx: flags & 2 == 0,
            file,
        }
    }
}

impl Hardware for Device {
    fn address(&self) -> PciAddress {
        "0000:01:00.0".parse().unwrap()
    }

    fn config_size(&self) -> u64 {
        self.config.lock().unwrap().len() as u64
    }

    fn config_read(&self, offset: u16, data: &mut [u8]) {
        let config = self.config.lock().unwrap();
        for (at, byte) in (usize::from(offset)..).zip(data) {
            *byte = config.get(at).copied().unwrap_or(0xff);
        }
    }

    fn config_write(&self, offset: u16, data: &[u8]) {
        let mut config = self.config.lock().unwrap();
        for (at, byte) in (usize::from(offset)..).zip(data) {
            if let Some(place) = config.get_mut(at) {
                *place = *byte;
            }
        }
    }

    fn bar(&self, index: u8) -> Option<&RegionInfo> {
        self.regions.get(usize::from(index))?.as_ref()
    }

    fn bar_read(&self, index: u8, _: u64, data: &mut [u8]) {
        data.fill(index);
    }

    fn bar_write(&self, _: u8, _: u64, _: &[u8]) {}

    fn map(&self, region: &RegionInfo, areas: &[Range<u64>]) -> io::Result<BarMapping> {
        BarMapping::new(&self.file, region, areas)
    }

    fn vectors(self: Arc<Self>, _: u32) -> Option<(u32, Arc<dyn VectorBackend>)> {
        Some((self.vectors?, Arc::new(Backend::default())))
    }

    fn intx(self: Arc<Self>) -> Option<Arc<dyn IntxLine>> {
        self.intx.then(|| Arc::new(Line) as Arc<dyn IntxLine>)
    }

    fn notices(self: Arc<Self>) -> Vec<Notice> {
        Vec::new()
    }

    fn reset(&self) -> io::Result<()> {
        Ok(())
    }
}

struct Line;

impl IntxLine for Line {
    fn connect(&self, _: &EventFd) -> io::Result<()> {
        Ok(())
    }

    fn disconnect(&self) -> io::Result<()> {
        Ok(())
    }

    fn unmask(&self) -> io::Result<()> {
        Ok(())
    }
}

pub(super) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let device = Arc::new(Device::new(&mut input));
    let machine = Machine::new();
    let Ok(function) = PassthroughFunction::new(device, &machine.controller) else { return };
    let function = Arc::new(function);
    machine.bus.add(Some(1), function.clone()).unwrap();
    // BARs that do not fit keep a machine from starting.
    if machine.bus.assign_bars().is_err() {
        return;
    }
    machine.bus.connect_interrupts(&machine.ioapic);
    let windows = function.bars();
    for _ in 0..MOST_STEPS {
        if input.is_empty() {
            break;
        }
        match input.byte() % 8 {
            0..5 => machine.step(&mut input),
            5 | 6 => {
                let bar = input.byte() % REGIONS as u8;
                let mut data = input.access(8);
                let Some(window) = windows.iter().find(|window| window.index == bar) else { continue };
                // A bus lets no access across the end of a BAR.
                let offset = input.qword() % window.size;
                if offset.checked_add(data.len() as u64).is_some_and(|end| end <= window.size) {
                    let _ = function.bar_write(bar, offset, &data);
                    function.bar_read(bar, offset, &mut data);
                }
            }
            _ => {
                function.bus_reset();
                machine.bus.refresh();
            }
        }
    }
    let Machine { space, bus, .. } = machine;
    drop(bus);
    assert!(space.is_empty(), "a BAR outlives its bus");
}
