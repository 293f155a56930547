//! What a vCPU thread does between two entries of its guest allocates nothing: the accesses that a guest makes all the time,
//! through the buses and devices of a machine as it is built.
//!
//! # Unsafe
//! An allocator that counts.
#![expect(unsafe_code, reason = "GlobalAlloc")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io;
use std::sync::Arc;

use devices::Action;
use devices::irq::{InterruptController, MsiMessage, MsiVector, PinTrigger};
use devices::pci::{AddressSpace, MappedArea};
use memory::layout::{self, AddressLimits};
use vmm::machine::platform::{Parts, Platform};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, which counts what each thread asks of it.
struct Counting;

// SAFETY: everything is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Nobody listens to interrupts, and nothing is mapped.
struct Nowhere;

impl InterruptController for Nowhere {
    fn msi_vector(&self) -> io::Result<Arc<dyn MsiVector>> {
        Err(io::ErrorKind::Unsupported.into())
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
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl AddressSpace for Nowhere {
    fn map(&self, _: u64, _: &MappedArea) -> io::Result<()> {
        Ok(())
    }

    fn unmap(&self, _: u64, _: &MappedArea) -> io::Result<()> {
        Ok(())
    }
}

/// How often `work` allocates.
fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

#[test]
fn accesses_of_a_running_guest_allocate_nothing() {
    assert_eq!(allocations(|| drop(Box::new(1))), 1);
    let layout = layout::Layout::new(128 << 20, &AddressLimits::cpu_only(40)).unwrap();
    let platform = Platform::build(Parts {
        layout: &layout,
        interrupts: Arc::new(Nowhere),
        space: Arc::new(Nowhere),
        seats: Vec::new(),
        console: Box::new(io::sink()),
        serial: true,
        debug_exit: true,
    })
    .unwrap();
    let (pio, mmio) = (&platform.pio, &platform.mmio);
    let accesses: [(&str, &dyn Fn()); 9] = [
        ("the serial port", &|| {
            assert_eq!(pio.write(0x3f8, b"x"), Action::None);
            pio.read(0x3fd, &mut [0]);
        }),
        ("the clock", &|| {
            assert_eq!(pio.write(0x70, &[0]), Action::None);
            pio.read(0x71, &mut [0]);
        }),
        ("PCI configuration by ports", &|| {
            assert_eq!(pio.write(0xcf8, &0x8000_0000_u32.to_le_bytes()), Action::None);
            pio.read(0xcfc, &mut [0; 4]);
        }),
        ("PCI configuration in memory", &|| mmio.read(layout.ecam.start, &mut [0; 4])),
        ("a slot without a device", &|| mmio.read(layout.ecam.start + (5 << 15), &mut [0; 4])),
        ("the IOAPIC", &|| {
            assert_eq!(mmio.write(layout::IOAPIC.start, &0x10_u32.to_le_bytes()), Action::None);
            mmio.read(layout::IOAPIC.start + 0x10, &mut [0; 4]);
            platform.ioapic.end_of_interrupt(0x30);
        }),
        ("ACPI's events", &|| pio.read(0x603, &mut [0])),
        ("debug exit", &|| assert_eq!(pio.write(0xf4, &[1]), Action::DebugExit(1))),
        ("nobody", &|| {
            pio.read(0x80, &mut [0]);
            assert_eq!(mmio.write(0xfed0_0000, &[0; 4]), Action::None);
        }),
    ];
    for (what, access) in accesses {
        // What is made once may be made the first time.
        access();
        assert_eq!(allocations(access), 0, "an access to {what} allocates");
    }
}
