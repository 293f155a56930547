use super::super::e820::e820;
use super::super::fixture;
use super::*;

const RAM: [GuestRange; 2] = [GuestRange::new(0, 1 << 30), GuestRange::new(4 << 30, 1 << 30)];
const INITRD: GuestRange = GuestRange::new(0x3000_0000, 0x1234);

#[test]
fn the_zero_page_keeps_the_kernels_header_and_adds_what_the_loader_knows() {
    let header = fixture::kernel(&fixture::bzimage()).setup_header();
    let map = e820(&RAM, &[]);
    let params = zero_page(header, &map, 2047, Some(INITRD), 0xe_0000);
    let hdr = params.hdr;
    assert_eq!(({ hdr.header }, { hdr.version }, { hdr.boot_flag }), (HDRS, 0x020f, BOOT_FLAG));
    assert_eq!({ hdr.type_of_loader }, 0xff);
    assert_eq!(({ hdr.ramdisk_image }, { hdr.ramdisk_size }), (0x3000_0000, 0x1234));
    assert_eq!(({ hdr.cmd_line_ptr }, { hdr.cmdline_size }), (0x1_0000, 2047));
    assert_eq!({ params.acpi_rsdp_addr }, 0xe_0000);
    assert_eq!(params.sentinel, 0);
    assert_eq!(usize::from(params.e820_entries), map.len());
    let first = params.e820_table[0];
    assert_eq!(({ first.addr }, { first.size }, { first.r#type }), (0, 0xa_0000, 1));
}

#[test]
fn an_elf_kernel_gets_a_header_of_its_own() {
    let params = zero_page(None, &e820(&RAM, &[]), 2047, None, 0xe_0000);
    assert_eq!(({ params.hdr.header }, { params.hdr.boot_flag }), (HDRS, BOOT_FLAG));
    assert_eq!(({ params.hdr.ramdisk_image }, { params.hdr.ramdisk_size }), (0, 0));
}

#[test]
fn pvh_start_info() {
    let map = e820(&RAM, &[]);
    let (info, module, memmap) = start_info(&map, Some(INITRD), 0xe_0000);
    assert_eq!((info.magic, info.version, info.nr_modules), (0x336e_c578, 1, 1));
    assert_eq!((info.modlist_paddr, info.cmdline_paddr), (map::MODULES, map::CMDLINE.start));
    assert_eq!((info.memmap_paddr, info.memmap_entries as usize), (map::MEMMAP, map.len()));
    assert_eq!(info.rsdp_paddr, 0xe_0000);
    let module = module.unwrap();
    assert_eq!((module.paddr, module.size), (INITRD.start, INITRD.size));
    assert!(memmap.iter().zip(&map).all(|(a, b)| a.addr == b.range.start && a.type_ == b.kind as u32));

    let (info, module, _) = start_info(&map, None, 0xe_0000);
    assert_eq!((info.nr_modules, info.modlist_paddr, module), (0, 0, None));
}
