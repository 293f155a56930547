//! The registers of vCPUs as notes: one NT_PRSTATUS each, as if each were a thread of a process (`struct elf_prstatus` in
//! include/linux/elfcore.h, whose registers are `struct user_regs_struct` in arch/x86/include/asm/user_64.h).
//!
//! Those have no control registers. QEMU has them in notes of its own (`QEMUCPUState` in target/i386/arch_dump.c), from which
//! crash finds a kernel that has moved itself (KASLR): they follow.

use kvm_bindings::{kvm_dtable, kvm_segment};

use crate::hypervisor::vcpu::Registers;

/// Name and kind of the notes.
const PRSTATUS: (&[u8], u32) = (b"CORE\0", 1);
const QEMU_STATE: (&[u8], u32) = (b"QEMU\0", 0);
/// Of `struct elf_prstatus`, its size and the offsets of fields.
const PRSTATUS_SIZE: usize = 336;
const PR_PID: usize = 32;
const PR_REG: usize = 112;
/// Of `QEMUCPUState`, its version, and its size without what is optional.
const STATE_VERSION: u32 = 1;
const STATE_SIZE: u32 = 432;

/// The notes, each kind in the order of vCPUs.
pub(super) fn of(vcpus: &[Registers]) -> Vec<u8> {
    // Thread 0 is none.
    let threads = (1..).zip(vcpus).flat_map(|(pid, vcpu)| note(PRSTATUS, &prstatus(pid, vcpu)));
    threads.chain(vcpus.iter().flat_map(|vcpu| note(QEMU_STATE, &qemu_state(vcpu)))).collect()
}

/// A note: lengths of name and contents, its kind, and both, each padded to 4 bytes.
fn note((name, kind): (&[u8], u32), contents: &[u8]) -> Vec<u8> {
    let mut note = Vec::new();
    let header = [name.len() as u32, contents.len() as u32, kind];
    header.iter().for_each(|field| note.extend(field.to_le_bytes()));
    for part in [name, contents] {
        note.extend(part);
        note.resize(note.len().next_multiple_of(4), 0);
    }
    note
}

/// All but thread number and registers is zero.
fn prstatus(pid: u32, registers: &Registers) -> Vec<u8> {
    let mut status = vec![0; PR_PID];
    status.extend(pid.to_le_bytes());
    status.resize(PR_REG, 0);
    user_registers(registers).iter().for_each(|register| status.extend(register.to_le_bytes()));
    status.resize(PRSTATUS_SIZE, 0);
    status
}

/// In the order of `struct user_regs_struct`.
#[rustfmt::skip]
fn user_registers(Registers { general: r, system: s }: &Registers) -> [u64; 27] {
    // Of the system call that is being made: none.
    let orig_rax = 0;
    let selector = |segment: &kvm_segment| u64::from(segment.selector);
    [
        r.r15, r.r14, r.r13, r.r12, r.rbp, r.rbx, r.r11, r.r10, r.r9, r.r8, r.rax, r.rcx, r.rdx, r.rsi, r.rdi, orig_rax,
        r.rip, selector(&s.cs), r.rflags, r.rsp, selector(&s.ss), s.fs.base, s.gs.base,
        selector(&s.ds), selector(&s.es), selector(&s.fs), selector(&s.gs),
    ]
}

#[rustfmt::skip]
fn qemu_state(Registers { general: r, system: s }: &Registers) -> Vec<u8> {
    let mut state = Vec::with_capacity(STATE_SIZE as usize);
    [STATE_VERSION, STATE_SIZE].iter().for_each(|field| state.extend(field.to_le_bytes()));
    let general = [
        r.rax, r.rbx, r.rcx, r.rdx, r.rsi, r.rdi, r.rsp, r.rbp,
        r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14, r.r15, r.rip, r.rflags,
    ];
    general.iter().for_each(|register| state.extend(register.to_le_bytes()));
    let segments = [&s.cs, &s.ds, &s.es, &s.fs, &s.gs, &s.ss, &s.ldt, &s.tr];
    segments.iter().for_each(|it| state.extend(segment(it)));
    [&s.gdt, &s.idt].iter().for_each(|it| state.extend(table(it)));
    [s.cr0, 0, s.cr2, s.cr3, s.cr4].iter().for_each(|register| state.extend(register.to_le_bytes()));
    state
}

/// A segment; its attributes lie as in the upper half of a descriptor (Intel SDM vol. 3, 3.4.5).
fn segment(it: &kvm_segment) -> Vec<u8> {
    let bits = [
        (it.type_, 8),
        (it.s, 12),
        (it.dpl, 13),
        (it.present, 15),
        (it.avl, 20),
        (it.l, 21),
        (it.db, 22),
        (it.g, 23),
    ];
    let attributes = bits.iter().fold(0, |all, (bits, place)| all | u32::from(*bits) << place);
    place(it.selector.into(), it.limit, attributes, it.base)
}

/// A table of descriptors.
fn table(it: &kvm_dtable) -> Vec<u8> {
    place(0, it.limit.into(), 0, it.base)
}

fn place(selector: u32, limit: u32, attributes: u32, base: u64) -> Vec<u8> {
    let fields = [selector, limit, attributes, 0];
    fields.iter().flat_map(|field| field.to_le_bytes()).chain(base.to_le_bytes()).collect()
}
