use super::*;

#[test]
fn linux64_is_long_mode_with_the_zero_page_in_rsi() {
    let mut sregs = kvm_sregs { apic_base: 0xfee0_0900, cr8: 3, ..Default::default() };
    let regs = boot_state(&Entry::Linux64 { rip: 0x100_0200, zero_page: map::ZERO_PAGE }, &mut sregs);
    assert_eq!((regs.rip, regs.rsi, regs.rflags), (0x100_0200, 0x2000, 2));
    assert_eq!(sregs.cr0, 0x8000_0011);
    assert_eq!((sregs.cr3, sregs.cr4, sregs.efer), (0x8000, 0x20, 0x500));
    assert_eq!((sregs.cs.selector, sregs.cs.l, sregs.cs.db, sregs.cs.type_), (0x10, 1, 0, 0xb));
    assert_eq!((sregs.ds.selector, sregs.ds.type_, sregs.ss.selector), (0x18, 3, 0x18));
    assert_eq!((sregs.tr.type_, sregs.tr.s, sregs.tr.present, sregs.tr.limit), (0xb, 0, 1, 0x67));
    assert_eq!((sregs.gdt.base, sregs.gdt.limit), (map::GDT, 47));
    assert_eq!((sregs.apic_base, sregs.cr8), (0xfee0_0900, 0));
}

#[test]
fn pvh_is_flat_protected_mode_with_the_start_info_in_ebx() {
    // What a guest in long mode leaves behind.
    let mut sregs =
        kvm_sregs { cr0: 0x8005_0033, cr3: 0x1234_5000, cr4: 0x6f0, efer: 0xd01, ..Default::default() };
    let regs = boot_state(&Entry::Pvh { eip: 0x100_0100, start_info: map::START_INFO }, &mut sregs);
    assert_eq!((regs.rip, regs.rbx, regs.rflags), (0x100_0100, 0x3000, 2));
    assert_eq!((sregs.cr0, sregs.cr3, sregs.cr4, sregs.efer), (0x11, 0, 0, 0));
    assert_eq!((sregs.cs.base, sregs.cs.limit, sregs.cs.db, sregs.cs.l), (0, 0xffff_ffff, 1, 0));
    assert_eq!((sregs.cs.g, sregs.cs.s, sregs.cs.present, sregs.cs.dpl), (1, 1, 1, 0));
    assert_eq!((sregs.es.limit, sregs.es.db, sregs.es.selector), (0xffff_ffff, 1, 0x18));
}

#[test]
fn the_page_tables_map_4_gib_one_to_one() {
    let tables = page_tables();
    assert_eq!(tables.len(), 6 * 512);
    let at = |table: u64, index: u64| tables[((table - map::PAGE_TABLES) / 8 + index) as usize];
    let walk = |address: u64| {
        let pdpt = at(map::PAGE_TABLES, address >> 39 & 511);
        let pd = at(pdpt & !0xfff, address >> 30 & 511);
        let page = at(pd & !0xfff, address >> 21 & 511);
        assert!(pdpt & 3 == 3 && pd & 3 == 3 && page & 0x83 == 0x83);
        (page & !0x1f_ffff) | (address & 0x1f_ffff)
    };
    for address in [0, 0x1000, 0x1f_ffff, 0x20_0000, 0x3fff_ffff, 0x4000_0000, 0xfee0_0030, 0xffff_ffff] {
        assert_eq!(walk(address), address);
    }
    assert_eq!(tables[1..512].iter().chain(&tables[516..1024]).sum::<u64>(), 0);
}
