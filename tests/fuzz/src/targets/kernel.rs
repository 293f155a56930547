//! Kernels: bzImages and ELF files, with the rest of what a guest boots from, into a small guest.
//!
//! The first byte says what comes with the kernel, which is the rest.

use std::os::unix::fs::FileExt;
use std::sync::{Arc, OnceLock};

use memory::layout::AddressLimits;
use memory::{GuestRam, Layout};
use vmm::acpi::AcpiTables;
use vmm::boot::{self, Initrd, InitrdPart, Kernel, Payload};
use vmm::machine::platform::acpi_spec;

use super::virtio::{memfd, path_of};
use crate::fakes::RAM;

struct Guest {
    layout: Layout,
    acpi: AcpiTables,
}

fn guest() -> &'static Guest {
    static GUEST: OnceLock<Guest> = OnceLock::new();
    GUEST.get_or_init(|| {
        let layout = Layout::new(RAM, &AddressLimits::cpu_only(40)).unwrap();
        let acpi = AcpiTables::build(&acpi_spec(&layout, 1, &[], 1, true)).unwrap();
        Guest { layout, acpi }
    })
}

pub(super) fn run(bytes: &[u8]) {
    let Some((how, image)) = bytes.split_first() else { return };
    let file = memfd();
    file.write_all_at(image, 0).unwrap();
    let Ok(kernel) = Kernel::open(path_of(&file)) else { return };
    let Guest { layout, acpi } = guest();
    let initrd = InitrdPart::Bytes(Arc::from(vec![0x5a; usize::from(how >> 2) << 12 | 1]));
    let initrd = (how & 1 != 0).then(|| Initrd::made(&[initrd], "initrd").unwrap());
    let (longest, footprint) = (kernel.cmdline_max(), kernel.footprint());
    let cmdline = if how & 2 == 0 { String::from("quiet") } else { "x".repeat(longest.min(1 << 16)) };
    let payload = Payload { kernel, initrd, cmdline };
    let ram = GuestRam::new(layout).unwrap();
    let ranges: Vec<_> = ram.regions().iter().map(|region| region.guest).collect();
    let wrong = boot::check(&ranges, &[layout.ecam], &payload);
    let memory = ram.guest_memory();
    let loaded = boot::load(memory, &ranges, &[layout.ecam], &payload, acpi);
    if let Ok(entry) = loaded {
        assert!(wrong.is_empty(), "{wrong:?}");
        assert!(ranges.iter().any(|range| range.contains(&footprint)), "a kernel at {footprint}");
        // A reboot loads it again.
        boot::clear_for(memory, &payload).unwrap();
        assert_eq!(boot::load(memory, &ranges, &[layout.ecam], &payload, acpi).unwrap(), entry);
    }
}
