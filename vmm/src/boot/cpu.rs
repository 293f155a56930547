//! The state in which the boot CPU enters the kernel.
//!
//! Linux's 64-bit boot protocol (Documentation/arch/x86/boot.rst, "64-bit Boot Protocol"): long mode, the first
//! 4 GiB mapped one to one, `__BOOT_CS` and `__BOOT_DS`, the zero page in RSI. PVH
//! (xen/docs/misc/pvh.pandoc): 32-bit protected mode without paging, flat segments, the start info in EBX.
//! The other CPUs wait for their INIT and SIPI as KVM leaves them.

use kvm_bindings::{kvm_dtable, kvm_regs, kvm_segment, kvm_sregs};

use super::{Entry, map};

// Descriptors (Intel SDM vol. 3, 3.4.5), accessed already so that the CPU need not write to the table.
const CODE32: u64 = 0x00cf_9b00_0000_ffff;
const CODE64: u64 = 0x00af_9b00_0000_ffff;
const DATA: u64 = 0x00cf_9300_0000_ffff;
const TSS: u64 = 0x0000_8b00_0000_0067;

/// Selectors: the second and third are Linux's `__BOOT_CS` and `__BOOT_DS`.
const CODE32_SELECTOR: u16 = 0x08;
const CODE64_SELECTOR: u16 = 0x10;
const DATA_SELECTOR: u16 = 0x18;
const TSS_SELECTOR: u16 = 0x20;

/// The table both protocols use. A TSS descriptor takes two slots in long mode.
pub(super) const GDT: [u64; 6] = [0, CODE32, CODE64, DATA, TSS, 0];

const CR0_PE: u64 = 1;
const CR0_ET: u64 = 1 << 4;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;
/// The bit of RFLAGS that is always set.
const RFLAGS_FIXED: u64 = 1 << 1;

const PAGE_PRESENT: u64 = 1;
const PAGE_WRITABLE: u64 = 1 << 1;
const PAGE_LARGE: u64 = 1 << 7;
const PAGE_SIZE: u64 = 4096;
const LARGE_PAGE_SIZE: u64 = 2 << 20;
/// Entries in a page of a page table.
const ENTRIES: usize = 512;
/// Page directories for 4 GiB.
const DIRECTORIES: usize = 4;

/// The page tables for [`map::PAGE_TABLES`]: PML4, page directory pointers, four page directories.
pub(super) fn page_tables() -> Vec<u64> {
    let table = |index: u64| (map::PAGE_TABLES + index * PAGE_SIZE) | PAGE_PRESENT | PAGE_WRITABLE;
    let mut entries = vec![table(1)];
    entries.resize(ENTRIES, 0);
    entries.extend((2..2 + DIRECTORIES as u64).map(table));
    entries.resize(2 * ENTRIES, 0);
    entries.extend(
        (0..(DIRECTORIES * ENTRIES) as u64)
            .map(|page| (page * LARGE_PAGE_SIZE) | PAGE_PRESENT | PAGE_WRITABLE | PAGE_LARGE),
    );
    entries
}

/// Sets the boot CPU up for `entry`: the special registers in place, so that what is not the loader's business
/// (the APIC base) stays as it was, the general ones from scratch.
pub fn boot_state(entry: &Entry, sregs: &mut kvm_sregs) -> kvm_regs {
    let data = segment(DATA, DATA_SELECTOR);
    sregs.ds = data;
    sregs.es = data;
    sregs.fs = data;
    sregs.gs = data;
    sregs.ss = data;
    sregs.tr = segment(TSS, TSS_SELECTOR);
    sregs.ldt = kvm_segment { unusable: 1, ..Default::default() };
    sregs.gdt = kvm_dtable { base: map::GDT, limit: size_of_val(&GDT) as u16 - 1, ..Default::default() };
    // No handlers yet: an exception is a triple fault, a reset.
    sregs.idt = kvm_dtable::default();
    sregs.cr2 = 0;
    sregs.cr8 = 0;
    sregs.interrupt_bitmap = Default::default();
    let regs = kvm_regs { rflags: RFLAGS_FIXED, rsp: map::STACK_TOP, ..Default::default() };
    match *entry {
        Entry::Linux64 { rip, zero_page } => {
            sregs.cs = segment(CODE64, CODE64_SELECTOR);
            sregs.cr0 = CR0_PE | CR0_ET | CR0_PG;
            sregs.cr3 = map::PAGE_TABLES;
            sregs.cr4 = CR4_PAE;
            sregs.efer = EFER_LME | EFER_LMA;
            kvm_regs { rip, rsi: zero_page, ..regs }
        }
        Entry::Pvh { eip, start_info } => {
            sregs.cs = segment(CODE32, CODE32_SELECTOR);
            sregs.cr0 = CR0_PE | CR0_ET;
            sregs.cr3 = 0;
            sregs.cr4 = 0;
            sregs.efer = 0;
            kvm_regs { rip: u64::from(eip), rbx: start_info, ..regs }
        }
    }
}

/// What the CPU caches of a descriptor when `selector` is loaded.
fn segment(descriptor: u64, selector: u16) -> kvm_segment {
    let bits = |at: u32, count: u32| (descriptor >> at) & ((1 << count) - 1);
    let limit = (bits(0, 16) | bits(48, 4) << 16) as u32;
    let granular = bits(55, 1) == 1;
    kvm_segment {
        base: bits(16, 24) | bits(56, 8) << 24,
        limit: if granular { limit << 12 | 0xfff } else { limit },
        selector,
        type_: bits(40, 4) as u8,
        s: bits(44, 1) as u8,
        dpl: bits(45, 2) as u8,
        present: bits(47, 1) as u8,
        avl: bits(52, 1) as u8,
        l: bits(53, 1) as u8,
        db: bits(54, 1) as u8,
        g: u8::from(granular),
        unusable: 0,
        padding: 0,
    }
}

#[cfg(test)]
#[path = "cpu_test.rs"]
mod tests;
