//! What lies beyond what is fuzzed: a hypervisor whose interrupts and doorbells lead nowhere, guest memory, and address space
//! that must never be mapped twice.
//!
//! # Unsafe
//!
//! Whether an eventfd is ready is asked with poll(2).
#![expect(unsafe_code, reason = "poll(2) through libc")]

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

use devices::doorbell::{Doorbell, Doorbells};
use devices::irq::{InterruptController, MsiMessage, MsiVector, PinTrigger};
use devices::pci::{AddressSpace, MappedArea, VectorBackend};
use memory::layout::AddressLimits;
use memory::{GuestRam, Layout};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// Bytes of guest memory.
pub(crate) const RAM: u64 = 16 << 20;
/// Vectors that a hypervisor has.
const MOST_VECTORS: usize = 256;

/// Guest memory, all zeroes.
pub(crate) fn ram() -> Arc<GuestRam> {
    let layout = Layout::new(RAM, &AddressLimits::cpu_only(40)).unwrap();
    Arc::new(GuestRam::new(&layout).unwrap())
}

/// Interrupts that lead nowhere.
#[derive(Default)]
struct Controller {
    vectors: Mutex<Vec<Weak<Vector>>>,
}

struct Vector {
    eventfd: EventFd,
    number: u32,
}

/// A hypervisor's interrupts.
pub(crate) fn controller() -> Arc<dyn InterruptController> {
    Arc::new(Controller::default())
}

impl InterruptController for Controller {
    fn msi_vector(&self) -> io::Result<Arc<dyn MsiVector>> {
        let mut vectors = self.vectors.lock().unwrap();
        let free = vectors.iter().position(|vector| vector.strong_count() == 0).unwrap_or(vectors.len());
        if free == MOST_VECTORS {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let vector = Arc::new(Vector { eventfd: EventFd::new(EFD_NONBLOCK)?, number: free as u32 });
        let count = vectors.len().max(free + 1);
        vectors.resize(count, Weak::new());
        vectors[free] = Arc::downgrade(&vector);
        Ok(vector)
    }

    fn set_messages(&self, messages: &[(u32, Option<MsiMessage>)]) -> io::Result<()> {
        let vectors = self.vectors.lock().unwrap();
        for (number, _) in messages {
            assert!(vectors[*number as usize].strong_count() > 0, "a message for a vector that is gone");
        }
        Ok(())
    }

    fn signal_msi(&self, _: MsiMessage) -> io::Result<()> {
        Ok(())
    }

    fn set_ioapic_route(&self, _: u8, _: Option<MsiMessage>) -> io::Result<()> {
        Ok(())
    }

    fn pin_trigger(&self, _: u8) -> io::Result<Box<dyn PinTrigger>> {
        Ok(Box::new(Trigger(EventFd::new(EFD_NONBLOCK)?)))
    }
}

impl MsiVector for Vector {
    fn eventfd(&self) -> &EventFd {
        &self.eventfd
    }

    fn number(&self) -> u32 {
        self.number
    }

    fn set_message(&self, _: Option<MsiMessage>) -> io::Result<()> {
        Ok(())
    }
}

struct Trigger(EventFd);

impl PinTrigger for Trigger {
    fn eventfd(&self) -> &EventFd {
        &self.0
    }
}

/// Doorbells, by where they hang.
#[derive(Default)]
pub(crate) struct Bells(Arc<Mutex<BTreeMap<u64, EventFd>>>);

struct Bell(u64, Arc<Mutex<BTreeMap<u64, EventFd>>>);

impl Bells {
    /// Rings the one at `gpa`, if there is one.
    pub(crate) fn ring(&self, gpa: u64) -> bool {
        self.0.lock().unwrap().get(&gpa).is_some_and(|bell| bell.write(1).is_ok())
    }

    /// Whether one of those that count was rung and nobody has heard it.
    pub(crate) fn unheard(&self, counts: impl Fn(u64) -> bool) -> bool {
        let bells = self.0.lock().unwrap();
        bells.iter().filter(|(gpa, _)| counts(**gpa)).any(|(_, bell)| {
            let mut polled = libc::pollfd { fd: bell.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one valid pollfd, which outlives the call.
            unsafe { libc::poll(&mut polled, 1, 0) == 1 }
        })
    }

    pub(crate) fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

impl Doorbells for Bells {
    fn hang(&self, gpa: u64, eventfd: &EventFd) -> io::Result<Box<dyn Doorbell>> {
        let before = self.0.lock().unwrap().insert(gpa, eventfd.try_clone()?);
        assert!(before.is_none(), "two doorbells at {gpa:#x}");
        Ok(Box::new(Bell(gpa, self.0.clone())))
    }
}

impl Doorbell for Bell {}

impl Drop for Bell {
    fn drop(&mut self) {
        self.1.lock().unwrap().remove(&self.0);
    }
}

/// A device's vectors, each connected once at a time.
#[derive(Default)]
pub(crate) struct Backend {
    connected: Mutex<BTreeMap<u16, EventFd>>,
    refusing: AtomicBool,
}

impl Backend {
    /// Whether vectors are refused from now on.
    pub(crate) fn refuse(&self, refusing: bool) {
        self.refusing.store(refusing, Ordering::Relaxed);
    }

    /// Raises a vector, if it is connected.
    pub(crate) fn raise(&self, vector: u16) {
        if let Some(trigger) = self.connected.lock().unwrap().get(&vector) {
            let _ = trigger.write(1);
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.connected.lock().unwrap().is_empty()
    }
}

impl VectorBackend for Backend {
    fn connect(&self, vectors: &[(u16, &EventFd)]) -> io::Result<()> {
        if self.refusing.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Other.into());
        }
        let mut connected = self.connected.lock().unwrap();
        for (vector, trigger) in vectors {
            let before = connected.insert(*vector, trigger.try_clone()?);
            assert!(before.is_none(), "vector {vector} is connected twice");
        }
        Ok(())
    }

    fn disconnect_all(&self) {
        self.connected.lock().unwrap().clear();
    }
}

/// A guest's address space: it takes what a hypervisor would take.
#[derive(Default)]
pub(crate) struct Space(Mutex<BTreeMap<u64, MappedArea>>);

impl Space {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.lock().unwrap().is_empty()
    }
}

impl AddressSpace for Space {
    fn map(&self, gpa: u64, area: &MappedArea) -> io::Result<()> {
        let mut mapped = self.0.lock().unwrap();
        assert!(gpa.is_multiple_of(4096) && area.size.is_multiple_of(4096) && area.size > 0, "{area:?}");
        for (start, other) in mapped.iter() {
            assert!(gpa + area.size <= *start || start + other.size <= gpa, "two maps at {gpa:#x}");
        }
        mapped.insert(gpa, *area);
        Ok(())
    }

    fn unmap(&self, gpa: u64, area: &MappedArea) -> io::Result<()> {
        assert_eq!(self.0.lock().unwrap().remove(&gpa), Some(*area), "unmapped what was not mapped");
        Ok(())
    }
}
