//! One virtual machine: its memory slots, its interrupt chip, its link to VFIO.
//!
//! # Unsafe
//! Memory slots hand host addresses to the kernel. They are guest RAM, which [`Vm`] keeps alive, and device
//! memory, which [`AddressSpace::unmap`] takes back before it goes.
#![expect(unsafe_code, reason = "KVM_SET_USER_MEMORY_REGION takes raw host addresses")]

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use devices::pci::{AddressSpace, MappedArea};
use kvm_bindings::{
    KVM_CAP_HALT_POLL, KVM_CAP_SPLIT_IRQCHIP, KVM_CAP_X2APIC_API, KVM_MEM_READONLY,
    KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK, KVM_X2APIC_API_USE_32BIT_IDS, kvm_create_device,
    kvm_device_type_KVM_DEV_TYPE_VFIO, kvm_enable_cap, kvm_userspace_memory_region,
};
use kvm_ioctls::{Cap, DeviceFd, VmFd};
use memory::{GuestRam, GuestRange, layout};

use super::doorbells::KvmDoorbells;
use super::interrupts::{IOAPIC_PINS, KvmInterrupts};
use super::{Hypervisor, KvmError};

/// A virtual machine. RAM comes first and stays; device memory comes and goes as the guest moves BARs.
pub struct Vm {
    fd: Arc<VmFd>,
    slots: Mutex<Slots>,
    // Below `fd`: the slots go before what they point to.
    _ram: Option<Arc<GuestRam>>,
}

/// Bytes of the largest slot: KVM takes fewer than 2^31 pages (`KVM_MEM_MAX_NR_PAGES`, include/linux/kvm_host.h), which is a page short of
/// 8 TiB. Half of that leaves huge pages whole.
const MOST_SLOT: u64 = 4 << 40;

/// A memory slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slot {
    /// Guest physical address.
    gpa: u64,
    /// Bytes.
    size: u64,
    /// Where it is mapped here.
    hva: u64,
    /// What the guest writes there is an access to a device that does not exist, and forgotten.
    read_only: bool,
}

/// The slots of a region of memory that is mapped at `hva`.
fn slots(guest: GuestRange, hva: u64, read_only: bool) -> impl Iterator<Item = Slot> {
    let GuestRange { start, size } = guest;
    (0..size.div_ceil(MOST_SLOT)).map(move |index| {
        let done = index * MOST_SLOT;
        Slot { gpa: start + done, size: MOST_SLOT.min(size - done), hva: hva + done, read_only }
    })
}

/// Memory slot numbers in use, by the guest physical address they start at.
#[derive(Default)]
struct Slots {
    by_gpa: BTreeMap<u64, u32>,
    free: Vec<u32>,
    next: u32,
}

impl Slots {
    fn take(&mut self, gpa: u64) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        });
        self.by_gpa.insert(gpa, slot);
        slot
    }

    fn give_back(&mut self, gpa: u64) -> Option<u32> {
        let slot = self.by_gpa.remove(&gpa)?;
        self.free.push(slot);
        Some(slot)
    }
}

impl Vm {
    /// An empty machine.
    pub fn new(hypervisor: &Hypervisor) -> Result<Self, KvmError> {
        let fd = hypervisor.kvm().create_vm().map_err(KvmError::of("KVM_CREATE_VM"))?;
        Ok(Self { fd: Arc::new(fd), slots: Mutex::default(), _ram: None })
    }

    /// The link through which VFIO learns which machine a device belongs to. VFIO devices are added to it
    /// before they are opened (Documentation/virt/kvm/devices/vfio.rst).
    pub fn vfio_link(&self) -> Result<DeviceFd, KvmError> {
        let mut device = kvm_create_device { type_: kvm_device_type_KVM_DEV_TYPE_VFIO, fd: 0, flags: 0 };
        self.fd.create_device(&mut device).map_err(KvmError::of("KVM_CREATE_DEVICE vfio"))
    }

    /// Gives the machine its RAM, and persistent memory. Comes before [`Vm::create_irqchip`]: with an interrupt chip in place each
    /// slot waits 8 to 10 ms for a grace period in the host.
    pub fn set_ram(&mut self, ram: Arc<GuestRam>) -> Result<(), KvmError> {
        let regions = ram.regions().iter().flat_map(|region| slots(region.guest, region.hva, false));
        let persistent = ram.persistent().iter();
        let persistent = persistent.flat_map(|it| slots(it.guest(), it.hva(), !it.is_writable()));
        regions.chain(persistent).try_for_each(|slot| self.set_slot(slot))?;
        self._ram = Some(ram);
        Ok(())
    }

    /// Has a halted vCPU's thread poll for at most so long before it sleeps, whatever KVM's own setting is
    /// (Documentation/virt/kvm/api.rst, KVM_CAP_HALT_POLL).
    pub fn set_halt_poll(&self, most: Duration) -> Result<(), KvmError> {
        let nanoseconds = u32::try_from(most.as_nanos()).unwrap_or(u32::MAX);
        self.enable(KVM_CAP_HALT_POLL, nanoseconds.into(), "KVM_CAP_HALT_POLL")
    }

    /// Local APICs in the kernel, the IOAPIC here; APIC ids of 32 bits when there are many.
    pub fn create_irqchip(&self, cpus: u32) -> Result<Arc<KvmInterrupts>, KvmError> {
        self.fd.set_tss_address(layout::KVM_TSS.start as usize).map_err(KvmError::of("KVM_SET_TSS_ADDR"))?;
        self.fd
            .set_identity_map_address(layout::KVM_IDENTITY_MAP.start)
            .map_err(KvmError::of("KVM_SET_IDENTITY_MAP_ADDR"))?;
        self.enable(KVM_CAP_SPLIT_IRQCHIP, u64::from(IOAPIC_PINS), "KVM_CAP_SPLIT_IRQCHIP")?;
        let flags = KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK;
        let extended_destinations = self.extended_destinations(cpus);
        if extended_destinations {
            self.enable(KVM_CAP_X2APIC_API, u64::from(flags), "KVM_CAP_X2APIC_API")?;
        }
        let most_routes = u32::try_from(self.fd.check_extension_int(Cap::IrqRouting)).unwrap_or(0);
        Ok(KvmInterrupts::new(self.fd.clone(), most_routes, extended_destinations))
    }

    /// Its doorbells.
    pub fn doorbells(&self) -> KvmDoorbells {
        KvmDoorbells::new(self.fd.clone())
    }

    /// Whether APIC ids above 255 are needed and to be had.
    pub fn extended_destinations(&self, cpus: u32) -> bool {
        cpus > 255 && self.fd.check_extension_raw(KVM_CAP_X2APIC_API.into()) != 0
    }

    fn enable(&self, cap: u32, argument: u64, name: &str) -> Result<(), KvmError> {
        let cap = kvm_enable_cap { cap, args: [argument, 0, 0, 0], ..Default::default() };
        self.fd.enable_cap(&cap).map_err(KvmError::of(format!("KVM_ENABLE_CAP {name}")))
    }

    fn set_slot(&self, slot: Slot) -> Result<(), KvmError> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let number = slots.take(slot.gpa);
        let result = self.ioctl_slot(number, slot);
        if result.is_err() {
            slots.give_back(slot.gpa);
        }
        result
    }

    fn ioctl_slot(&self, number: u32, slot: Slot) -> Result<(), KvmError> {
        let Slot { gpa, size, hva, read_only } = slot;
        let region = kvm_userspace_memory_region {
            slot: number,
            flags: if read_only { KVM_MEM_READONLY } else { 0 },
            guest_phys_addr: gpa,
            memory_size: size,
            userspace_addr: hva,
        };
        // SAFETY: the range is mapped in this process until the slot is deleted: RAM and persistent memory are kept by
        // `self._ram`, a device area by its function, which unmaps it here first.
        unsafe { self.fd.set_user_memory_region(region) }
            .map_err(KvmError::of(format!("KVM_SET_USER_MEMORY_REGION gpa {gpa:#x} size {size:#x}")))
    }

    pub(crate) fn fd(&self) -> &VmFd {
        &self.fd
    }
}

impl AddressSpace for Vm {
    fn map(&self, gpa: u64, area: &MappedArea) -> io::Result<()> {
        let slot = Slot { gpa, size: area.size, hva: area.hva, read_only: false };
        self.set_slot(slot).map_err(|error| error.source)
    }

    fn unmap(&self, gpa: u64, _area: &MappedArea) -> io::Result<()> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        match slots.give_back(gpa) {
            Some(number) => {
                let none = Slot { gpa, size: 0, hva: 0, read_only: false };
                self.ioctl_slot(number, none).map_err(|error| error.source)
            }
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

#[cfg(test)]
#[path = "vm_test.rs"]
mod tests;
