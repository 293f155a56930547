//! Interrupt routes: which message an eventfd (irqfd) or an IOAPIC pin becomes. KVM takes the whole table at
//! once (KVM_SET_GSI_ROUTING), so it is kept here and handed over on every change.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use devices::irq::{InterruptController, MsiMessage, MsiVector};
use kvm_bindings::{KVM_IRQ_ROUTING_MSI, KvmIrqRouting, kvm_irq_routing_entry, kvm_msi};
use kvm_ioctls::VmFd;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// Pins of the IOAPIC; KVM reserves as many GSIs from 0.
pub const IOAPIC_PINS: u8 = 24;

/// The interrupt routes of one machine.
pub struct KvmInterrupts {
    vm: Arc<VmFd>,
    routes: Mutex<Routes>,
    /// GSIs below this may be routed (KVM_CAP_IRQ_ROUTING).
    most_routes: u32,
    extended_destinations: bool,
    /// Handed to vectors, which outlive a borrow.
    this: Weak<KvmInterrupts>,
}

#[derive(Default)]
struct Routes {
    messages: BTreeMap<u32, MsiMessage>,
    /// GSIs handed out to vectors, routed or not.
    taken: BTreeSet<u32>,
}

impl Routes {
    /// Sets or clears a message; returns the one before.
    fn set(&mut self, gsi: u32, message: Option<MsiMessage>) -> Option<MsiMessage> {
        match message {
            Some(message) => self.messages.insert(gsi, message),
            None => self.messages.remove(&gsi),
        }
    }
}

impl KvmInterrupts {
    pub(super) fn new(vm: Arc<VmFd>, most_routes: u32, extended_destinations: bool) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            vm,
            routes: Mutex::default(),
            most_routes,
            extended_destinations,
            this: this.clone(),
        })
    }

    fn routes(&self) -> MutexGuard<'_, Routes> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets or clears the route of one GSI.
    fn route(&self, gsi: u32, message: Option<MsiMessage>) -> io::Result<()> {
        let mut routes = self.routes();
        let before = routes.set(gsi, message);
        if before == message {
            return Ok(());
        }
        // What KVM did not take must not look as if it had.
        let handed_over = self.hand_over(&routes);
        if handed_over.is_err() {
            routes.set(gsi, before);
        }
        handed_over
    }

    fn hand_over(&self, routes: &Routes) -> io::Result<()> {
        let entries: Vec<_> =
            routes.messages.iter().map(|(gsi, message)| self.entry(*gsi, message)).collect();
        let table =
            KvmIrqRouting::from_entries(&entries).map_err(|error| io::Error::other(format!("{error:?}")))?;
        self.vm.set_gsi_routing(&table).map_err(os_error)
    }

    fn entry(&self, gsi: u32, message: &MsiMessage) -> kvm_irq_routing_entry {
        let address = self.kvm_address(message.address);
        let mut entry = kvm_irq_routing_entry { gsi, type_: KVM_IRQ_ROUTING_MSI, ..Default::default() };
        entry.u.msi.address_lo = address as u32;
        entry.u.msi.address_hi = (address >> 32) as u32;
        entry.u.msi.data = message.data;
        entry
    }

    /// With 32-bit APIC ids KVM wants bits 8 and up of the destination in the high half of the address; the
    /// guest writes bits 8 to 14 of it to bits 5 to 11 (KVM_FEATURE_MSI_EXT_DEST_ID).
    fn kvm_address(&self, address: u64) -> u64 {
        const EXTENDED: u64 = 0xfe0;
        if self.extended_destinations {
            (address & !EXTENDED) | ((address & EXTENDED) << 35)
        } else {
            address
        }
    }

    fn take_gsi(&self) -> io::Result<u32> {
        let mut routes = self.routes();
        let gsi =
            (u32::from(IOAPIC_PINS)..self.most_routes).find(|gsi| !routes.taken.contains(gsi)).ok_or_else(
                || io::Error::other(format!("all {} interrupt routes of KVM are in use", self.most_routes)),
            )?;
        routes.taken.insert(gsi);
        Ok(gsi)
    }

    fn give_back(&self, gsi: u32) {
        if let Err(error) = self.route(gsi, None) {
            tracing::warn!(gsi, %error, "interrupt route not given back");
        }
        self.routes().taken.remove(&gsi);
    }
}

impl InterruptController for KvmInterrupts {
    fn msi_vector(&self) -> io::Result<Arc<dyn MsiVector>> {
        let routes = self.this.upgrade().ok_or_else(|| io::Error::other("the machine is gone"))?;
        let eventfd = EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)?;
        let gsi = self.take_gsi()?;
        Ok(Arc::new(IrqfdVector { routes, eventfd, gsi, live: Mutex::new(false) }))
    }

    fn signal_msi(&self, message: MsiMessage) -> io::Result<()> {
        let address = self.kvm_address(message.address);
        let msi = kvm_msi {
            address_lo: address as u32,
            address_hi: (address >> 32) as u32,
            data: message.data,
            ..Default::default()
        };
        // 0 means that no vCPU took it (masked there): that is the guest's business, as on hardware.
        self.vm.signal_msi(msi).map(drop).map_err(os_error)
    }

    fn set_ioapic_route(&self, pin: u8, message: Option<MsiMessage>) -> io::Result<()> {
        self.route(u32::from(pin), message)
    }
}

/// A vector whose eventfd KVM listens to while it has a message.
struct IrqfdVector {
    routes: Arc<KvmInterrupts>,
    eventfd: EventFd,
    gsi: u32,
    live: Mutex<bool>,
}

impl MsiVector for IrqfdVector {
    fn eventfd(&self) -> &EventFd {
        &self.eventfd
    }

    fn set_message(&self, message: Option<MsiMessage>) -> io::Result<()> {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        // The route is set before KVM listens: what collected in the eventfd is delivered right then.
        if message.is_some() {
            self.routes.route(self.gsi, message)?;
        }
        match (message.is_some(), *live) {
            (true, false) => self.routes.vm.register_irqfd(&self.eventfd, self.gsi).map_err(os_error)?,
            (false, true) => self.routes.vm.unregister_irqfd(&self.eventfd, self.gsi).map_err(os_error)?,
            _ => {}
        }
        *live = message.is_some();
        Ok(())
    }
}

impl Drop for IrqfdVector {
    fn drop(&mut self) {
        if let Err(error) = self.set_message(None) {
            tracing::warn!(gsi = self.gsi, %error, "irqfd not given back");
        }
        self.routes.give_back(self.gsi);
    }
}

fn os_error(error: kvm_ioctls::Error) -> io::Error {
    io::Error::from_raw_os_error(error.errno())
}
