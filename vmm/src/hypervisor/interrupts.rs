//! Interrupt routes: which message an eventfd (irqfd) or an IOAPIC pin becomes. KVM takes the whole table at
//! once (KVM_SET_GSI_ROUTING), so it is kept here and handed over on every change.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use devices::irq::{InterruptController, MsiMessage, MsiVector, PinTrigger};
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
    /// The vectors handed out, routed or not, by their GSIs.
    vectors: BTreeMap<u32, Irqfd>,
}

/// What KVM knows of a vector.
struct Irqfd {
    eventfd: Arc<EventFd>,
    /// KVM listens.
    live: bool,
}

impl Routes {
    /// Sets or clears a message; returns the one before.
    fn set(&mut self, gsi: u32, message: Option<MsiMessage>) -> Option<MsiMessage> {
        match message {
            Some(message) => self.messages.insert(gsi, message),
            None => self.messages.remove(&gsi),
        }
    }

    /// The lowest GSI that is no pin's and no vector's.
    fn free_gsi(&self) -> u32 {
        let first = u32::from(IOAPIC_PINS);
        self.vectors.keys().fold(first, |free, taken| if *taken == free { free + 1 } else { free })
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

    /// Sets or clears the routes of GSIs, all of them or none.
    fn route(
        &self,
        routes: &mut Routes,
        changes: impl IntoIterator<Item = (u32, Option<MsiMessage>)>,
    ) -> io::Result<()> {
        let mut before = Vec::new();
        for (gsi, message) in changes {
            let old = routes.set(gsi, message);
            if old != message {
                before.push((gsi, old));
            }
        }
        if before.is_empty() {
            return Ok(());
        }
        let handed_over = self.hand_over(routes);
        if handed_over.is_err() {
            // What KVM did not take must not look as if it had.
            for (gsi, message) in before.into_iter().rev() {
                routes.set(gsi, message);
            }
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

    /// Makes KVM listen to a vector's eventfd, or stop.
    fn listen(&self, routes: &mut Routes, gsi: u32, live: bool) -> io::Result<()> {
        let Some(irqfd) = routes.vectors.get_mut(&gsi).filter(|irqfd| irqfd.live != live) else {
            return Ok(());
        };
        let call = if live { VmFd::register_irqfd } else { VmFd::unregister_irqfd };
        call(&self.vm, &irqfd.eventfd, gsi).map_err(os_error)?;
        irqfd.live = live;
        Ok(())
    }

    fn give_back(&self, gsi: u32) {
        let mut routes = self.routes();
        if let Err(error) = self.listen(&mut routes, gsi, false) {
            tracing::warn!(gsi, %error, "irqfd not given back");
        }
        routes.vectors.remove(&gsi);
        // KVM hears of it with the next change: until then the route leads nowhere, since nobody raises it.
        routes.set(gsi, None);
    }
}

impl InterruptController for KvmInterrupts {
    fn msi_vector(&self) -> io::Result<Arc<dyn MsiVector>> {
        let controller = self.this.upgrade().ok_or_else(|| io::Error::other("the machine is gone"))?;
        let eventfd = Arc::new(EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)?);
        let mut routes = self.routes();
        let gsi = routes.free_gsi();
        if gsi >= self.most_routes {
            let all = self.most_routes;
            return Err(io::Error::other(format!("all {all} interrupt routes of KVM are in use")));
        }
        routes.vectors.insert(gsi, Irqfd { eventfd: eventfd.clone(), live: false });
        drop(routes);
        Ok(Arc::new(IrqfdVector { controller, eventfd, gsi }))
    }

    fn set_messages(&self, messages: &[(u32, Option<MsiMessage>)]) -> io::Result<()> {
        let mut routes = self.routes();
        // A masked vector keeps its route. Routes are set before KVM listens: what collected in an eventfd is
        // delivered right then.
        self.route(&mut routes, messages.iter().copied().filter(|(_, message)| message.is_some()))?;
        messages.iter().try_for_each(|(gsi, message)| self.listen(&mut routes, *gsi, message.is_some()))
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
        self.route(&mut self.routes(), [(u32::from(pin), message)])
    }

    fn pin_trigger(&self, pin: u8) -> io::Result<Box<dyn PinTrigger>> {
        let eventfd = EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)?;
        self.vm.register_irqfd(&eventfd, pin.into()).map_err(os_error)?;
        Ok(Box::new(PinIrqfd { vm: self.vm.clone(), eventfd, pin }))
    }
}

/// A vector whose eventfd KVM listens to while it has a message.
struct IrqfdVector {
    controller: Arc<KvmInterrupts>,
    eventfd: Arc<EventFd>,
    gsi: u32,
}

impl MsiVector for IrqfdVector {
    fn eventfd(&self) -> &EventFd {
        &self.eventfd
    }

    fn number(&self) -> u32 {
        self.gsi
    }

    fn set_message(&self, message: Option<MsiMessage>) -> io::Result<()> {
        self.controller.set_messages(&[(self.gsi, message)])
    }
}

impl Drop for IrqfdVector {
    fn drop(&mut self) {
        self.controller.give_back(self.gsi);
    }
}

/// An eventfd that KVM turns into a pin's message.
struct PinIrqfd {
    vm: Arc<VmFd>,
    eventfd: EventFd,
    pin: u8,
}

impl PinTrigger for PinIrqfd {
    fn eventfd(&self) -> &EventFd {
        &self.eventfd
    }
}

impl Drop for PinIrqfd {
    fn drop(&mut self) {
        if let Err(error) = self.vm.unregister_irqfd(&self.eventfd, self.pin.into()) {
            tracing::warn!(pin = self.pin, %error, "irqfd of an interrupt pin not given back");
        }
    }
}

fn os_error(error: kvm_ioctls::Error) -> io::Error {
    io::Error::from_raw_os_error(error.errno())
}

#[cfg(test)]
#[path = "interrupts_test.rs"]
mod tests;
