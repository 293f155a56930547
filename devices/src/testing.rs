//! Stand-ins for the hypervisor, for tests of this crate.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::Action;
use crate::irq::{InterruptController, MsiMessage, MsiVector, PinTrigger};
use crate::pci::config::{COMMAND, ConfigSpace, Identity};
use crate::pci::{AddressSpace, BarSet, BarSpec, BarWindow, MappedArea, PciFunction, VectorBackend};

/// Records what devices ask for.
#[derive(Default)]
pub(crate) struct FakeController {
    pub(crate) vectors: Mutex<Vec<Weak<FakeVector>>>,
    pub(crate) signalled: Mutex<Vec<MsiMessage>>,
    pub(crate) routes: Mutex<BTreeMap<u8, MsiMessage>>,
    pub(crate) route_changes: Mutex<usize>,
    /// Vectors still to be had.
    pub(crate) exhausted: AtomicBool,
    /// New vectors refuse every message.
    pub(crate) refusing: AtomicBool,
    /// How often messages were set, of however many vectors.
    pub(crate) updates: AtomicUsize,
    /// The pins that are raised by eventfds now.
    pub(crate) triggers: Arc<Mutex<Vec<u8>>>,
}

pub(crate) struct FakeVector {
    eventfd: EventFd,
    number: u32,
    pub(crate) message: Mutex<Option<MsiMessage>>,
    pub(crate) changes: Mutex<usize>,
    pub(crate) refusing: AtomicBool,
}

impl FakeController {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// The vectors alive now.
    pub(crate) fn alive(&self) -> Vec<Arc<FakeVector>> {
        self.vectors.lock().unwrap().iter().filter_map(Weak::upgrade).collect()
    }
}

impl InterruptController for FakeController {
    fn msi_vector(&self) -> io::Result<Arc<dyn MsiVector>> {
        if self.exhausted.load(Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        let mut vectors = self.vectors.lock().unwrap();
        let vector = Arc::new(FakeVector {
            eventfd: EventFd::new(EFD_NONBLOCK)?,
            number: vectors.len() as u32,
            message: Mutex::default(),
            changes: Mutex::default(),
            refusing: AtomicBool::new(self.refusing.load(Ordering::Relaxed)),
        });
        vectors.push(Arc::downgrade(&vector));
        Ok(vector)
    }

    /// As a hypervisor may: in order, until one is refused.
    fn set_messages(&self, messages: &[(u32, Option<MsiMessage>)]) -> io::Result<()> {
        self.updates.fetch_add(1, Ordering::Relaxed);
        let vector = |number: u32| self.vectors.lock().unwrap()[number as usize].upgrade().unwrap();
        messages.iter().try_for_each(|(number, message)| vector(*number).set_message(*message))
    }

    fn signal_msi(&self, message: MsiMessage) -> io::Result<()> {
        self.signalled.lock().unwrap().push(message);
        Ok(())
    }

    fn set_ioapic_route(&self, pin: u8, message: Option<MsiMessage>) -> io::Result<()> {
        let mut routes = self.routes.lock().unwrap();
        match message {
            Some(message) => routes.insert(pin, message),
            None => routes.remove(&pin),
        };
        *self.route_changes.lock().unwrap() += 1;
        Ok(())
    }

    fn pin_trigger(&self, pin: u8) -> io::Result<Box<dyn PinTrigger>> {
        self.triggers.lock().unwrap().push(pin);
        Ok(Box::new(FakeTrigger {
            eventfd: EventFd::new(EFD_NONBLOCK)?,
            pin,
            triggers: self.triggers.clone(),
        }))
    }
}

struct FakeTrigger {
    eventfd: EventFd,
    pin: u8,
    triggers: Arc<Mutex<Vec<u8>>>,
}

impl PinTrigger for FakeTrigger {
    fn eventfd(&self) -> &EventFd {
        &self.eventfd
    }
}

impl Drop for FakeTrigger {
    fn drop(&mut self) {
        let mut triggers = self.triggers.lock().unwrap();
        let place = triggers.iter().position(|pin| *pin == self.pin).unwrap();
        triggers.remove(place);
    }
}

impl MsiVector for FakeVector {
    fn eventfd(&self) -> &EventFd {
        &self.eventfd
    }

    fn number(&self) -> u32 {
        self.number
    }

    fn set_message(&self, message: Option<MsiMessage>) -> io::Result<()> {
        if message.is_some() && self.refusing.load(Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        if std::mem::replace(&mut *self.message.lock().unwrap(), message) != message {
            *self.changes.lock().unwrap() += 1;
        }
        Ok(())
    }
}

/// Remembers which eventfd each vector of a function is raised by.
#[derive(Default)]
pub(crate) struct FakeBackend {
    connected: Mutex<BTreeMap<u16, EventFd>>,
    pub(crate) disconnects: Mutex<usize>,
    pub(crate) enables: AtomicUsize,
    pub(crate) refusing: AtomicBool,
    /// A vector that cannot be connected.
    pub(crate) refused: Mutex<Option<u16>>,
    /// The vectors of each call to connect.
    pub(crate) calls: Mutex<Vec<Vec<u16>>>,
}

impl FakeBackend {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// Connected vectors, in order.
    pub(crate) fn connected(&self) -> Vec<u16> {
        self.connected.lock().unwrap().keys().copied().collect()
    }

    /// Raises a vector, as the device would.
    pub(crate) fn raise(&self, vector: u16) {
        self.connected.lock().unwrap()[&vector].write(1).unwrap();
    }
}

impl VectorBackend for FakeBackend {
    fn enable(&self) -> io::Result<()> {
        self.enables.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn connect(&self, vectors: &[(u16, &EventFd)]) -> io::Result<()> {
        self.calls.lock().unwrap().push(vectors.iter().map(|(vector, _)| *vector).collect());
        for (vector, trigger) in vectors {
            if self.refusing.load(Ordering::Relaxed) || Some(*vector) == *self.refused.lock().unwrap() {
                return Err(io::Error::from_raw_os_error(libc::EIO));
            }
            assert!(trigger.as_raw_fd() >= 0);
            let before = self.connected.lock().unwrap().insert(*vector, trigger.try_clone()?);
            assert!(
                before.is_none() || self.refused.lock().unwrap().is_some(),
                "vector {vector} connected twice"
            );
        }
        Ok(())
    }

    fn disconnect_all(&self) {
        self.connected.lock().unwrap().clear();
        *self.disconnects.lock().unwrap() += 1;
    }
}

/// Records what is mapped, and panics on what a hypervisor would refuse.
#[derive(Default)]
pub(crate) struct FakeSpace {
    pub(crate) mapped: Mutex<BTreeMap<u64, MappedArea>>,
    pub(crate) refusing: AtomicBool,
}

impl AddressSpace for FakeSpace {
    fn map(&self, gpa: u64, area: &MappedArea) -> io::Result<()> {
        if self.refusing.load(Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(libc::ENOMEM));
        }
        let mut mapped = self.mapped.lock().unwrap();
        assert!(gpa.is_multiple_of(4096) && area.size.is_multiple_of(4096) && area.size > 0);
        for (start, other) in mapped.iter() {
            assert!(gpa + area.size <= *start || start + other.size <= gpa, "overlapping maps");
        }
        mapped.insert(gpa, *area);
        Ok(())
    }

    fn unmap(&self, gpa: u64, area: &MappedArea) -> io::Result<()> {
        assert_eq!(self.mapped.lock().unwrap().remove(&gpa), Some(*area), "unmapped what was not mapped");
        Ok(())
    }
}

/// A function with BARs and nothing else. Trapped reads give the BAR number.
pub(crate) struct FakeFunction {
    pub(crate) config: Mutex<ConfigSpace>,
    areas: Vec<(u8, MappedArea)>,
    /// How often its bus was reset.
    pub(crate) resets: AtomicUsize,
}

impl FakeFunction {
    pub(crate) fn new(bars: &[BarSpec]) -> Arc<Self> {
        Self::with_areas(bars, &[])
    }

    pub(crate) fn with_areas(bars: &[BarSpec], areas: &[(u8, MappedArea)]) -> Arc<Self> {
        let mut set = BarSet::new();
        bars.iter().for_each(|bar| set.add(*bar).unwrap());
        let identity = Identity { vendor: 0x1234, device: 0x5678, ..Identity::default() };
        let config = Mutex::new(ConfigSpace::new(&identity, set));
        Arc::new(Self { config, areas: areas.to_vec(), resets: AtomicUsize::new(0) })
    }
}

impl PciFunction for FakeFunction {
    fn config_read(&self, offset: u16, data: &mut [u8]) {
        assert!(matches!(data.len(), 1 | 2 | 4) && usize::from(offset).is_multiple_of(data.len()));
        self.config.lock().unwrap().read(offset, data);
    }
    fn config_write(&self, offset: u16, data: &[u8]) -> Action {
        assert!(matches!(data.len(), 1 | 2 | 4) && usize::from(offset).is_multiple_of(data.len()));
        self.config.lock().unwrap().write(offset, data);
        Action::None
    }
    fn bars(&self) -> Vec<BarWindow> {
        self.config.lock().unwrap().bars().windows()
    }
    fn decoded(&self) -> Vec<BarWindow> {
        self.config.lock().unwrap().decoded()
    }
    fn place_bar(&self, index: u8, address: u64) {
        self.config.lock().unwrap().bars_mut().place(index, address);
    }
    fn mapped_areas(&self, bar: u8) -> Vec<MappedArea> {
        self.areas.iter().filter(|(index, _)| *index == bar).map(|(_, area)| *area).collect()
    }
    fn bar_read(&self, bar: u8, _: u64, data: &mut [u8]) {
        data.fill(bar);
    }
    fn bar_write(&self, _: u8, _: u64, _: &[u8]) -> Action {
        Action::Reset
    }
    fn bus_reset(&self) {
        let mut config = self.config.lock().unwrap();
        config.set(COMMAND, &[0; 2]);
        config.bars_mut().reset();
        self.resets.fetch_add(1, Ordering::Relaxed);
    }
}
