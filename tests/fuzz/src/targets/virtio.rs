//! The virtio devices, each with a hostile driver on one side and somebody of the host's on the other.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::RangeInclusive;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use devices::disk::{Disk, DiskOptions, Format};
use devices::rate::Limits;
use devices::tap::{Link, Offloads, TapQueue};
use devices::virtio::VirtioDevice;
use devices::virtio::balloon::{Balloon, BalloonOptions};
use devices::virtio::blk::{Blk, BlkOptions};
use devices::virtio::console::{Backend, Console, PortOptions};
use devices::virtio::iommu::{Access, Iommu, Reach, Space, Unreached};
use devices::virtio::mem::{Mem, Owner};
use devices::virtio::net::{MacAddress, Net, NetLimits, ServedBy};
use devices::virtio::pmem::{Pmem, PmemFile, PmemOptions};
use devices::virtio::rng::Rng;
use devices::virtio::vsock::Vsock;
use memory::layout::AddressLimits;
use memory::persistent::GRANULE;
use memory::{GuestRam, GuestRange, Layout};
use rustix::fs::{MemfdFlags, memfd_create};
use tempfile::TempDir;

use super::driver::Driver;
use crate::Input;
use crate::fakes::RAM;

/// Bytes of a disk: not whole blocks.
const DISK: u64 = (1 << 20) + 700;

/// A file without a name.
pub(super) fn memfd() -> File {
    File::from(memfd_create("fuzz", MemfdFlags::CLOEXEC).unwrap())
}

/// What such a file can be opened by.
pub(super) fn path_of(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

/// Something that is there once for all inputs.
fn once<T: Send + Sync>(cell: &'static OnceLock<T>, make: impl FnOnce() -> T) -> &'static T {
    cell.get_or_init(make)
}

fn directory() -> &'static TempDir {
    static DIRECTORY: OnceLock<TempDir> = OnceLock::new();
    once(&DIRECTORY, || tempfile::tempdir().unwrap())
}

pub(super) fn blk(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let how = input.byte();
    let file = memfd();
    file.set_len(DISK).unwrap();
    let mut options = DiskOptions::new(path_of(&file));
    options.format = Some(Format::Raw);
    options.read_only = how & 1 != 0;
    let disk = Disk::open(&options).unwrap();
    let options = BlkOptions {
        serial: "fuzz".to_owned(),
        queues: 1 + u16::from(how >> 1 & 1),
        packed: how >> 2 & 1 != 0,
        limits: Limits::default(),
    };
    let device = Arc::new(Blk::new(disk, options));
    Driver::new(device.clone(), &mut input).follow(&mut input, |input| {
        let _ = device.grow(DISK / 512 * 512 + 512 * u64::from(input.byte()));
    });
    assert!(file.metadata().unwrap().len() >= DISK / 512 * 512, "the image shrank");
}

/// A cable that ends in a socket.
struct Cable(Vec<TapQueue>);

impl Link for Cable {
    fn name(&self) -> &str {
        "fuzz"
    }
    fn queues(&self) -> &[TapQueue] {
        &self.0
    }
    fn mtu(&self) -> u16 {
        1500
    }
    fn has_uso(&self) -> bool {
        true
    }
    fn set_offloads(&self, _: Offloads) -> io::Result<()> {
        Ok(())
    }
    fn use_queues(&self, _: usize) -> io::Result<()> {
        Ok(())
    }
}

pub(super) fn net(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (ours, theirs): (Vec<_>, Vec<_>) = (0..2).map(|_| UnixDatagram::pair().unwrap()).unzip();
    let queues = theirs.into_iter().map(|socket| TapQueue::socket(socket).unwrap()).collect();
    ours.iter().for_each(|socket| socket.set_nonblocking(true).unwrap());
    let (mac, how) = (MacAddress([2, 0, 0, 0, 0, 1]), input.byte());
    let served_by = ServedBy::Us { packed: how >> 1 & 1 != 0, limits: NetLimits::default() };
    let device = Arc::new(Net::new(Box::new(Cable(queues)), mac, how & 1 != 0, served_by));
    let mut frame = vec![0; 1 << 16];
    Driver::new(device, &mut input).follow(&mut input, |input| {
        for socket in &ours {
            while socket.recv(&mut frame).is_ok() {}
            let length = input.word();
            let _ = socket.send(input.bytes(length.into()));
        }
    });
}

pub(super) fn rng(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    Driver::new(Arc::new(Rng), &mut input).follow(&mut input, |_| {});
}

/// A client that speaks and listens without waiting.
struct Client(Option<UnixStream>);

impl Client {
    fn act(&mut self, path: &PathBuf, input: &mut Input) {
        match (&mut self.0, input.byte() % 4) {
            (client @ None, _) => {
                *client = UnixStream::connect(path).ok();
                client.iter().for_each(|stream| stream.set_nonblocking(true).unwrap());
            }
            (client, 0) => *client = None,
            (Some(stream), 1) => drop(stream.read(&mut [0; 4096])),
            (Some(stream), _) => {
                let length = input.byte();
                let _ = stream.write(input.bytes(length.into()));
            }
        }
    }
}

pub(super) fn console(bytes: &[u8]) {
    static LISTENER: OnceLock<UnixListener> = OnceLock::new();
    let path = directory().path().join("console");
    let listener = once(&LISTENER, || UnixListener::bind(directory().path().join("console")).unwrap());
    let mut input = Input::new(bytes);
    let kept = || Box::new(()) as Box<dyn std::any::Any + Send + Sync>;
    let socket = || Backend::Socket(listener.try_clone().unwrap());
    let ports = vec![
        PortOptions { name: None, backend: socket(), kept: kept() },
        PortOptions { name: Some("org.fuzz.0".to_owned()), backend: Backend::File(memfd()), kept: kept() },
    ];
    let mut client = Client(None);
    let device: Arc<dyn VirtioDevice> = Arc::new(Console::new(ports).unwrap());
    Driver::new(device, &mut input).follow(&mut input, |input| client.act(&path, input));
}

pub(super) fn vsock(bytes: &[u8]) {
    static LISTENERS: OnceLock<[UnixListener; 2]> = OnceLock::new();
    let path = directory().path().join("vsock");
    let [listener, service] = once(&LISTENERS, || {
        let listeners =
            ["vsock", "vsock_1024"].map(|name| UnixListener::bind(directory().path().join(name)).unwrap());
        listeners.iter().for_each(|listener| listener.set_nonblocking(true).unwrap());
        listeners
    });
    let mut input = Input::new(bytes);
    let (mut client, mut served) = (Client(None), Client(None));
    let device: Arc<dyn VirtioDevice> = Arc::new(Vsock::new(3, listener, path.clone()));
    // Nothing is ever told through the third queue.
    Driver::new(device, &mut input).deaf(1 << 2).follow(&mut input, |input| {
        if let Ok((stream, _)) = service.accept() {
            stream.set_nonblocking(true).unwrap();
            served.0 = Some(stream);
        }
        if served.0.is_some() && input.flag() { served.act(&path, input) } else { client.act(&path, input) }
    });
}

/// Memory of its own, which is plugged in as the driver wants; every fourth time it is not to be had.
struct Willing(Arc<GuestRam>, AtomicU8);

impl Owner for Willing {
    fn plug(&self, range: GuestRange) -> bool {
        let willing = !self.1.fetch_add(1, Ordering::Relaxed).is_multiple_of(4);
        self.0.pluggable().filter(|_| willing).map(|memory| memory.note(range, true)).is_some()
    }

    fn unplug(&self, range: GuestRange) {
        self.0.pluggable().into_iter().for_each(|memory| memory.note(range, false));
    }
}

pub(super) fn mem(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let layout = Layout::with_room(16 << 20, 128 << 20, &AddressLimits::cpu_only(40)).unwrap();
    let ram = Arc::new(GuestRam::new(&layout).unwrap());
    let device = Arc::new(Mem::new(ram.clone(), Box::new(Willing(ram, AtomicU8::new(1))), 64 << 20));
    Driver::new(device.clone(), &mut input).follow(&mut input, |input| {
        device.resize(u64::from(input.byte()) << 21);
        let _ = device.state();
    });
}

pub(super) fn pmem(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let file = memfd();
    file.set_len(GRANULE).unwrap();
    let options =
        PmemOptions { path: path_of(&file), read_only: input.flag(), size: None, lock: input.flag() };
    let place = GuestRange::new(4 << 30, GRANULE);
    let device = Pmem::new(Arc::new(PmemFile::open(&options).unwrap()), place);
    Driver::new(Arc::new(device), &mut input).follow(&mut input, |_| ());
}

/// What each of two spaces reaches: guest memory, by its first IOVA. Every fourth map is refused.
#[derive(Clone, Default)]
struct Reached(Arc<Mutex<[BTreeMap<u64, GuestRange>; 2]>>, Arc<AtomicU8>);

impl Reached {
    /// Takes whole maps out; gives how many bytes they had.
    fn take(&self, space: usize, iova: &RangeInclusive<u64>) -> u64 {
        let gone =
            self.0.lock().unwrap()[space].extract_if(iova.clone(), |_, _| true).map(|(_, it)| it.size).sum();
        let overlaps = |(first, it): (&u64, &GuestRange)| {
            *first <= *iova.end() && first + (it.size - 1) >= *iova.start()
        };
        assert!(!self.0.lock().unwrap()[space].iter().any(overlaps), "half of a map stays");
        gone
    }
}

impl Reach for Reached {
    fn map(
        &self,
        spaces: &[usize],
        iova: &RangeInclusive<u64>,
        guest: GuestRange,
        access: Access,
    ) -> Result<(), Unreached> {
        assert!(iova.end() - iova.start() == guest.size - 1 && (access.read || access.write));
        assert!([*iova.start(), guest.start, guest.size].iter().all(|it| it.is_multiple_of(4096)));
        assert!(guest.end() <= RAM, "{guest} is not memory");
        if self.1.fetch_add(1, Ordering::Relaxed).is_multiple_of(4) {
            return Err(Unreached::NoMemory);
        }
        for space in spaces {
            assert_eq!(self.take(*space, iova), 0, "{iova:x?} is mapped twice");
            self.0.lock().unwrap()[*space].insert(*iova.start(), guest);
        }
        Ok(())
    }

    fn unmap(&self, spaces: &[usize], iova: &RangeInclusive<u64>) -> Result<(), Unreached> {
        for space in spaces {
            assert_eq!(self.take(*space, iova), iova.end() - iova.start() + 1, "{iova:x?}");
        }
        Ok(())
    }

    fn clear(&self, space: usize) -> Result<(), Unreached> {
        self.0.lock().unwrap()[space].clear();
        Ok(())
    }
}

pub(super) fn iommu(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let reached = Reached(Arc::default(), Arc::new(AtomicU8::new(1)));
    let spaces = vec![Space::new(&[0..=0xffff_ffff], Some(8)), Space::new(&[0x1000..=0x7f_ffff_ffff], None)];
    let endpoints = vec![(8, 0), (9, 0), (16, 1)];
    let device = Arc::new(Iommu::new(endpoints, spaces, Box::new(reached.clone())));
    // Nothing is ever told through the second queue.
    Driver::new(device, &mut input).deaf(1 << 1).follow(&mut input, |_| {});
    assert!(
        reached.0.lock().unwrap().iter().all(BTreeMap::is_empty),
        "something is reached without a driver"
    );
}

pub(super) fn balloon(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let options = BalloonOptions {
        size: 1 << 20,
        free_page_reporting: true,
        deflate_on_oom: true,
        statistics: Some(Duration::from_millis(1)),
    };
    let device = Arc::new(Balloon::new(options));
    Driver::new(device.clone(), &mut input).follow(&mut input, |input| {
        device.resize(u64::from(input.word()) << 12);
        let _ = device.state();
    });
}
