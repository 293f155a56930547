//! What the kernel is told about the machine: the zero page (Linux Documentation/arch/x86/boot.rst and
//! zero-page.rst) or, for PVH, `hvm_start_info` (xen/include/public/arch-x86/hvm/start_info.h).

use linux_loader::loader::bootparam::{
    E820_MAX_ENTRIES_ZEROPAGE, LOADED_HIGH, boot_e820_entry, boot_params, setup_header,
};
use linux_loader::loader::start_info::{
    XEN_HVM_START_MAGIC_VALUE, hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info,
};
use memory::GuestRange;

use super::e820::E820Entry;
use super::map;

/// Entries the memory map can have. A PVH kernel adds one of its own to them.
pub(super) const E820_MAX: usize = E820_MAX_ENTRIES_ZEROPAGE - 1;

/// A loader without an id of its own.
const UNDEFINED_LOADER: u8 = 0xff;
const BOOT_FLAG: u16 = 0xaa55;
const HDRS: u32 = 0x5372_6448;

/// The zero page. `header` is the kernel's own; `None` is an ELF kernel.
pub(super) fn zero_page(
    header: Option<setup_header>,
    e820: &[E820Entry],
    cmdline_size: u32,
    initrd: Option<GuestRange>,
    rsdp: u64,
) -> Box<boot_params> {
    let mut params = Box::new(boot_params {
        hdr: header.unwrap_or(setup_header {
            boot_flag: BOOT_FLAG,
            header: HDRS,
            version: 0x020c,
            loadflags: LOADED_HIGH,
            kernel_alignment: 0x20_0000,
            ..Default::default()
        }),
        acpi_rsdp_addr: rsdp,
        ..Default::default()
    });
    params.hdr.type_of_loader = UNDEFINED_LOADER;
    params.hdr.setup_data = 0;
    params.hdr.cmd_line_ptr = map::CMDLINE.start as u32;
    params.hdr.cmdline_size = cmdline_size;
    // Placed below 4 GiB: the high halves in `ext_ramdisk_*` stay zero.
    params.hdr.ramdisk_image = initrd.map_or(0, |range| range.start as u32);
    params.hdr.ramdisk_size = initrd.map_or(0, |range| range.size as u32);
    for (slot, entry) in params.e820_table.iter_mut().zip(e820) {
        *slot =
            boot_e820_entry { addr: entry.range.start, size: entry.range.size, r#type: entry.kind as u32 };
        params.e820_entries += 1;
    }
    params
}

/// PVH's start info, module list (one entry, with an initrd) and memory map, each for its place in [`map`].
pub(super) fn start_info(
    e820: &[E820Entry],
    initrd: Option<GuestRange>,
    rsdp: u64,
) -> (hvm_start_info, Option<hvm_modlist_entry>, Vec<hvm_memmap_table_entry>) {
    let modules =
        initrd.map(|range| hvm_modlist_entry { paddr: range.start, size: range.size, ..Default::default() });
    let memmap: Vec<_> = e820
        .iter()
        .map(|entry| hvm_memmap_table_entry {
            addr: entry.range.start,
            size: entry.range.size,
            type_: entry.kind as u32,
            reserved: 0,
        })
        .collect();
    let info = hvm_start_info {
        magic: XEN_HVM_START_MAGIC_VALUE,
        version: 1,
        flags: 0,
        nr_modules: u32::from(modules.is_some()),
        modlist_paddr: if modules.is_some() { map::MODULES } else { 0 },
        cmdline_paddr: map::CMDLINE.start,
        rsdp_paddr: rsdp,
        memmap_paddr: map::MEMMAP,
        memmap_entries: memmap.len() as u32,
        reserved: 0,
    };
    (info, modules, memmap)
}

#[cfg(test)]
#[path = "params_test.rs"]
mod tests;
