//! The registers of vCPUs as notes: one NT_PRSTATUS each, as if each were a thread of a process (`struct elf_prstatus` in
//! include/linux/elfcore.h, whose registers are `struct user_regs_struct` in arch/x86/include/asm/user_64.h).

use crate::hypervisor::vcpu::Registers;

const NT_PRSTATUS: u32 = 1;
const NAME: &[u8] = b"CORE\0";
/// Size of `struct elf_prstatus`.
pub(super) const PRSTATUS: usize = 336;
/// Offsets of its fields.
const PR_PID: usize = 32;
const PR_REG: usize = 112;

/// The notes, in the order of vCPUs.
pub(super) fn of(vcpus: &[Registers]) -> Vec<u8> {
    // Thread 0 is none.
    (1..).zip(vcpus).flat_map(|(pid, registers)| note(NT_PRSTATUS, NAME, &prstatus(pid, registers))).collect()
}

/// A note: three lengths and kinds, its name and its contents, each padded to 4 bytes.
fn note(kind: u32, name: &[u8], contents: &[u8]) -> Vec<u8> {
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
    status.resize(PRSTATUS, 0);
    status
}

/// In the order of `struct user_regs_struct`.
fn user_registers(Registers { general: r, system: s }: &Registers) -> [u64; 27] {
    // Of the system call that is being made: none.
    let orig_rax = 0;
    let selector = |segment: &kvm_bindings::kvm_segment| u64::from(segment.selector);
    [
        r.r15,
        r.r14,
        r.r13,
        r.r12,
        r.rbp,
        r.rbx,
        r.r11,
        r.r10,
        r.r9,
        r.r8,
        r.rax,
        r.rcx,
        r.rdx,
        r.rsi,
        r.rdi,
        orig_rax,
        r.rip,
        selector(&s.cs),
        r.rflags,
        r.rsp,
        selector(&s.ss),
        s.fs.base,
        s.gs.base,
        selector(&s.ds),
        selector(&s.es),
        selector(&s.fs),
        selector(&s.gs),
    ]
}
