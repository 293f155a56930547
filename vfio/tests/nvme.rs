//! Drives an NVMe controller through a passthrough function as a guest's driver would: configuration space, mapped
//! BAR, DMA into mapped memory, MSI-X, reset, through iommufd and through a container. Needs one bound to vfio-pci, named
//! in `VFIO_TEST_NVME`:
//!
//! `VFIO_TEST_NVME=0000:01:00.0 cargo test -p vfio --test nvme -- --ignored`
//!
//! # Unsafe
//!
//! Reads and writes of device registers and of memory shared with the device, all volatile and inside their mappings.
#![expect(unsafe_code, reason = "device registers and DMA memory")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test"
)]

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd};
use std::path::PathBuf;
use std::ptr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use devices::irq::{InterruptController, MsiMessage, MsiVector, PinTrigger};
use devices::pci::{PciAddress, PciFunction};
use memory::GuestRange;
use memory::pin::{Chunk, DmaMapper};
use vfio::{
    Backend, DeviceRequest, HandedError, OpenError, Passthrough, PassthroughFunction, PreflightError,
    Request, preflight,
};
use vmm_sys_util::eventfd::EventFd;

const RAM: u64 = 0x10_0000;
const RAM_SIZE: u64 = 0x10_0000;
const BAR: u64 = 0x8000_0000;

/// Guest RAM: where it is mapped, and its memfd.
struct Ram(u64, File);

impl Ram {
    fn new() -> Self {
        let name = CString::new("ram").unwrap();
        // SAFETY: the name ends in NUL; the descriptor is new and nobody else's.
        let file = unsafe { File::from_raw_fd(libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC)) };
        file.set_len(RAM_SIZE).unwrap();
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let hva = unsafe {
            libc::mmap(ptr::null_mut(), RAM_SIZE as usize, access, libc::MAP_SHARED, file.as_raw_fd(), 0)
        };
        assert_ne!(hva, libc::MAP_FAILED);
        Self(hva as u64, file)
    }

    fn held(&self) -> Option<BorrowedFd<'_>> {
        Some(self.1.as_fd())
    }

    fn chunk(&self) -> Chunk {
        Chunk { guest: GuestRange::new(RAM, RAM_SIZE), hva: self.0, offset: 0 }
    }
}

fn peek(address: u64) -> u32 {
    // SAFETY: callers stay inside the BAR's mapping or the RAM.
    unsafe { ptr::read_volatile(address as *const u32) }
}

fn poke(address: u64, value: u32) {
    // SAFETY: as in `peek`.
    unsafe { ptr::write_volatile(address as *mut u32, value) }
}

struct Vector {
    number: u32,
    event: EventFd,
    message: Mutex<Option<MsiMessage>>,
}

impl MsiVector for Vector {
    fn eventfd(&self) -> &EventFd {
        &self.event
    }

    fn number(&self) -> u32 {
        self.number
    }

    fn set_message(&self, message: Option<MsiMessage>) -> io::Result<()> {
        *self.message.lock().unwrap() = message;
        Ok(())
    }
}

#[derive(Default)]
struct Controller(Mutex<Vec<Arc<Vector>>>);

impl InterruptController for Controller {
    fn msi_vector(&self) -> io::Result<Arc<dyn MsiVector>> {
        let event = EventFd::new(libc::EFD_NONBLOCK)?;
        let mut vectors = self.0.lock().unwrap();
        let vector = Arc::new(Vector { number: vectors.len() as u32, event, message: Mutex::default() });
        vectors.push(vector.clone());
        Ok(vector)
    }

    fn set_messages(&self, messages: &[(u32, Option<MsiMessage>)]) -> io::Result<()> {
        let vectors = self.0.lock().unwrap();
        messages.iter().try_for_each(|(number, message)| vectors[*number as usize].set_message(*message))
    }

    fn signal_msi(&self, _: MsiMessage) -> io::Result<()> {
        Ok(())
    }

    fn set_ioapic_route(&self, _: u8, _: Option<MsiMessage>) -> io::Result<()> {
        Ok(())
    }

    fn pin_trigger(&self, _: u8) -> io::Result<Box<dyn PinTrigger>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

fn config(function: &PassthroughFunction, offset: u16) -> u32 {
    let mut data = [0; 4];
    function.config_read(offset, &mut data);
    u32::from_le_bytes(data)
}

fn capability(function: &PassthroughFunction, id: u32) -> u16 {
    let mut at = config(function, 0x34) as u16 & 0xff;
    while at != 0 && config(function, at) & 0xff != id {
        at = (config(function, at) >> 8) as u16 & 0xff;
    }
    assert_ne!(at, 0, "capability {id:#x}");
    at
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(20), "no {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Brings the controller up, has it identify itself into RAM and returns its serial number.
fn identify(function: &PassthroughFunction, controller: &Controller, ram: &Ram) -> String {
    function.place_bar(0, BAR);
    let _ = function.config_write(0x04, &[0x06, 0x00]);
    let decoded = function.decoded();
    assert_eq!((decoded.len(), decoded[0].address), (1, BAR));
    let area = function.mapped_areas(0)[0];
    assert!(area.offset == 0 && area.size >= 0x2000, "{area:?}");
    let register = |offset: u64| area.hva + offset;

    let msix = capability(function, 0x11);
    let table = config(function, msix + 4);
    let _ = function.config_write(msix + 2, &[0x00, 0x80]);
    for (at, value) in [(0, 0xfee0_0000u32), (4, 0), (8, 0x4041), (12, 0)] {
        let _ = function.bar_write((table & 7) as u8, u64::from(table & !7) + at, &value.to_le_bytes());
    }
    let vector = controller.0.lock().unwrap().last().cloned().expect("vector 0 was asked for");
    assert_eq!(*vector.message.lock().unwrap(), Some(MsiMessage { address: 0xfee0_0000, data: 0x4041 }));

    poke(register(0x14), 0);
    until("disabled controller", || peek(register(0x1c)) & 1 == 0);
    for at in (0..0x4000).step_by(4) {
        poke(ram.0 + at, 0);
    }
    // Admin queues of 16 entries at the start of RAM, the answer behind them.
    let queues = [(0x24, 0x000f_000f), (0x28, RAM as u32), (0x2c, 0), (0x30, RAM as u32 + 0x1000), (0x34, 0)];
    for (at, value) in queues {
        poke(register(at), value);
    }
    poke(register(0x14), 1 | 6 << 16 | 4 << 20);
    until("ready controller", || peek(register(0x1c)) & 1 == 1);
    for (at, value) in [(0, 0x0001_0006), (24, RAM as u32 + 0x2000), (40, 1)] {
        poke(ram.0 + at, value);
    }
    poke(register(0x1000), 1);
    let mut poll = libc::pollfd { fd: vector.event.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one pollfd.
    assert_eq!(unsafe { libc::poll(&raw mut poll, 1, 20_000) }, 1, "no interrupt");
    // Phase 1, status 0.
    assert_eq!(peek(ram.0 + 0x100c) >> 16, 1);
    let serial: Vec<u8> = (0..5).flat_map(|word| peek(ram.0 + 0x2004 + word * 4).to_le_bytes()).collect();
    String::from_utf8(serial).unwrap().trim().to_owned()
}

#[test]
#[ignore = "needs an NVMe controller bound to vfio-pci, named in VFIO_TEST_NVME"]
fn a_controller_works_across_guest_reboots_and_sessions() {
    let address: PciAddress = std::env::var("VFIO_TEST_NVME").expect("VFIO_TEST_NVME").parse().unwrap();
    // As many as there are: a kernel without iommufd has one interface only.
    for (name, backend) in Backend::NAMES {
        let mut request = Request::at(&[address]);
        request.devices[0].backend = Some(backend);
        if preflight::check(request.clone()).is_ok() {
            println!("{name}");
            works(&request, backend);
        }
    }
}

/// The number of the cdev that this process has open.
fn bound_cdev() -> u32 {
    let entries = std::fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().path());
    let is_cdev =
        |path: &PathBuf| std::fs::read_link(path).is_ok_and(|to| to.starts_with("/dev/vfio/devices"));
    let path = entries.into_iter().find(is_cdev).expect("an open cdev");
    path.file_name().unwrap().to_str().unwrap().parse().unwrap()
}

fn works(request: &Request, backend: Backend) {
    let found = preflight::check(request.clone()).expect("nothing in the way");
    let ram = Ram::new();
    for session in 0..2 {
        let start = Instant::now();
        let passthrough = Passthrough::open(found.clone(), None).expect("open");
        let space = passthrough.space();
        assert_eq!(space.backend(), backend);
        println!("session {session}: open {:?}, {:x?}", start.elapsed(), passthrough.aperture());
        assert!(!passthrough.aperture().ranges.is_empty());
        assert_eq!(space.room().is_some(), backend == Backend::Container);

        // Nobody else gets it meanwhile, and is told who has it.
        let errors = preflight::check(request.clone()).unwrap_err();
        assert!(matches!(&errors[..], [PreflightError::Busy { .. }]), "{errors:?}");
        println!("{}", errors[0]);
        assert!(errors[0].to_string().contains(&format!("pid {}", std::process::id())));
        let error = Passthrough::open(found.clone(), None).err().expect("in use");
        println!("{error}");
        assert!(matches!(error, OpenError::Node { .. } | OpenError::Device { .. }), "{error:?}");

        // What is open for good cannot be handed over.
        if backend == Backend::Iommufd {
            let error = DeviceRequest::handed(bound_cdev()).unwrap_err();
            println!("{error}");
            assert!(matches!(error, HandedError::Bound { .. }), "{error:?}");
        }

        // By file, as under a trial pin, and by address.
        for held in [ram.held(), None] {
            space.map(&ram.chunk(), held).expect("map");
            let error = space.map(&ram.chunk(), held).unwrap_err();
            println!("{error}");
            assert_eq!(error.source.raw_os_error(), Some(libc::EEXIST));
            let mut half = ram.chunk();
            half.guest.size /= 2;
            assert!(space.unmap(&half).is_err());
            space.unmap(&ram.chunk()).expect("unmap");
        }
        space.map(&ram.chunk(), ram.held()).expect("map");

        let controller = Arc::new(Controller::default());
        let start = Instant::now();
        let functions =
            passthrough.functions(&(controller.clone() as Arc<dyn InterruptController>)).expect("functions");
        println!("functions {:?}", start.elapsed());
        let function = &functions[0];
        let area = function.mapped_areas(0)[0];
        // iommufd needs a kernel with VFIO_PCI_DMABUF for it.
        let peer = space.map_mmio(BAR, &area);
        println!("peer-to-peer map: {peer:?}");
        assert!(peer.is_ok() || backend == Backend::Iommufd);
        for boot in 0..3 {
            let serial = identify(function, &controller, &ram);
            println!("boot {boot}: serial {serial:?}");
            assert!(!serial.is_empty());
            let start = Instant::now();
            function.reset().expect("reset");
            println!("reset {:?}", start.elapsed());
            assert!(function.decoded().is_empty());
            assert_eq!(peek(area.hva + 0x1c) & 1, 0, "the reset reached the controller");
        }
        if peer.is_ok() {
            space.unmap_mmio(BAR, &area).expect("peer-to-peer unmap");
        }
        space.unmap(&ram.chunk()).expect("unmap");
        assert!(space.unmap(&ram.chunk()).is_err());
    }
    preflight::check(request.clone()).expect("everything given back");
}
