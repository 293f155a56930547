//! Where the boot structures lie in the first MiB of the guest, in guest physical addresses.
//!
//! Everything here is fixed, so that a reboot finds it again and nothing else needs to be told. The
//! kernel, the initrd and everything else whose size varies lie above [`KERNEL_MIN`].
//!
//! | range               | what                                                          |
//! |---------------------|---------------------------------------------------------------|
//! | `0x0..0x1000`       | BIOS data area, all zero: no EBDA, no conventional memory size |
//! | `0x1000..0x2000`    | GDT                                                           |
//! | `0x2000..0x3000`    | zero page (`boot_params`), Linux 64-bit boot                  |
//! | `0x3000..0x4000`    | `hvm_start_info` and module list, PVH boot                    |
//! | `0x4000..0x6000`    | memory map, PVH boot                                          |
//! | `0x7000..0x8000`    | a stack for whoever pushes before setting up one              |
//! | `0x8000..0xe000`    | page tables: identity map of the first 4 GiB                  |
//! | `0x10000..0x20000`  | kernel command line                                           |
//! | `0xa0000..0x100000` | reserved to the guest; the ACPI tables are at `0xe0000`        |

use memory::GuestRange;

/// The first page and all the boot structures after it; cleared before every boot.
pub const LOW: GuestRange = GuestRange::new(0, 0x2_0000);
/// Global descriptor table.
pub const GDT: u64 = 0x1000;
/// `boot_params` of the Linux boot protocol, one page.
pub const ZERO_PAGE: u64 = 0x2000;
/// `hvm_start_info` of the PVH boot protocol.
pub const START_INFO: u64 = 0x3000;
/// The PVH module list: one entry, the initrd.
pub const MODULES: u64 = 0x3800;
/// The PVH memory map, 24 bytes an entry.
pub const MEMMAP: u64 = 0x4000;
/// Top of the boot stack.
pub const STACK_TOP: u64 = 0x8000;
/// PML4, one page directory pointer table and four page directories, a page each.
pub const PAGE_TABLES: u64 = 0x8000;
/// The command line with its NUL.
pub const CMDLINE: GuestRange = GuestRange::new(0x1_0000, 0x1_0000);
/// The PC's hole below 1 MiB: backed by RAM, reserved in every memory map.
pub const ISA: GuestRange = GuestRange::new(0xa_0000, 0x6_0000);
/// RSDP and all ACPI tables. An OS without a pointer to the RSDP searches for it from here on. 128 KiB
/// hold the tables of several thousand CPUs.
pub const ACPI: GuestRange = GuestRange::new(0xe_0000, 0x2_0000);
/// Lowest address for the kernel and the initrd.
pub const KERNEL_MIN: u64 = 0x10_0000;
/// Boot happens below 4 GiB: it is what the page tables map and what 32-bit entries reach.
pub const LIMIT: u64 = 1 << 32;

const _: () = {
    assert!(ZERO_PAGE + 0x1000 <= START_INFO);
    assert!(MODULES + 32 <= MEMMAP);
    assert!(MEMMAP + 128 * 24 <= 0x6000);
    assert!(PAGE_TABLES + 6 * 0x1000 <= CMDLINE.start);
    assert!(LOW.contains(&CMDLINE) && ISA.contains(&ACPI) && !LOW.overlaps(&ISA));
    assert!(ISA.end() == KERNEL_MIN);
};
