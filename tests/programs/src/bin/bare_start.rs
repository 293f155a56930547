//! The least that a guest takes of KVM, to compare a start of ours with: `bare_start CODE [INITRD]` runs the bytes of the file
//! CODE as a guest with 128 MiB of memory and one vCPU, those of INITRD at the end of its memory. A byte for the first serial port
//! goes to standard output; one for port 0xf4 ends the process with `(value << 1) | 1`, as `--debug-exit` does.
//!
//! The calls are those of vmm for such a machine, in vmm's order, without anything that vmm checks or remembers.
//!
//! # Unsafe
//! mmap of guest memory, and its memory slot.
#![expect(unsafe_code, reason = "mmap, KVM_SET_USER_MEMORY_REGION")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test program")]

use std::ffi::OsString;
use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::fd::{AsFd, AsRawFd};
use std::process::ExitCode;
use std::ptr;

use kvm_bindings::{
    KVM_CAP_SPLIT_IRQCHIP, KVM_MAX_CPUID_ENTRIES, kvm_enable_cap, kvm_segment, kvm_userspace_memory_region,
};
use kvm_ioctls::{Kvm, VcpuExit};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create, sendfile};

const MEMORY: u64 = 128 << 20;
/// Where the code lies, guest physical.
const ENTRY: u64 = 0x20_0000;
/// Three pages of KVM's own and the one below, as vmm places them.
const KVM_TSS: usize = 0xfffb_d000;
const KVM_IDENTITY_MAP: u64 = 0xfffb_c000;
const IOAPIC_PINS: u64 = 24;
const COM1: u16 = 0x3f8;
const DEBUG_EXIT: u16 = 0xf4;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let code = std::fs::read(arguments.next().unwrap()).unwrap();
    let kvm = Kvm::new().unwrap();
    let vm = kvm.create_vm().unwrap();

    let mut file = File::from(memfd_create("guest-ram", MemfdFlags::CLOEXEC).unwrap());
    ftruncate(&file, MEMORY).unwrap();
    if let Some(initrd) = arguments.next() {
        load(&mut file, initrd);
    }
    let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_NORESERVE);
    // SAFETY: a new mapping at an address of the kernel's choice.
    let memory = unsafe { libc::mmap(ptr::null_mut(), MEMORY as usize, access, flags, file.as_raw_fd(), 0) };
    assert!(memory != libc::MAP_FAILED, "guest memory cannot be mapped");
    assert!(code.len() < 4096, "the guest is larger than a page");
    // SAFETY: a page at ENTRY is inside the mapping, which nobody else knows of.
    unsafe { ptr::copy_nonoverlapping(code.as_ptr(), memory.cast::<u8>().add(ENTRY as usize), code.len()) };
    let slot = kvm_userspace_memory_region {
        memory_size: MEMORY,
        userspace_addr: memory as u64,
        ..Default::default()
    };
    // SAFETY: the range stays mapped until the process ends.
    unsafe { vm.set_user_memory_region(slot) }.unwrap();

    vm.set_tss_address(KVM_TSS).unwrap();
    vm.set_identity_map_address(KVM_IDENTITY_MAP).unwrap();
    let split =
        kvm_enable_cap { cap: KVM_CAP_SPLIT_IRQCHIP, args: [IOAPIC_PINS, 0, 0, 0], ..Default::default() };
    vm.enable_cap(&split).unwrap();

    let mut vcpu = vm.create_vcpu(0).unwrap();
    vcpu.set_cpuid2(&kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).unwrap()).unwrap();
    let mut sregs = vcpu.get_sregs().unwrap();
    // 32-bit protected mode, flat, paging off.
    let flat = kvm_segment { limit: u32::MAX, present: 1, db: 1, s: 1, g: 1, ..Default::default() };
    let data = kvm_segment { selector: 0x10, type_: 3, ..flat };
    sregs.cs = kvm_segment { selector: 8, type_: 11, ..flat };
    [sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss] = [data; 5];
    sregs.cr0 |= 1;
    vcpu.set_sregs(&sregs).unwrap();
    let mut regs = vcpu.get_regs().unwrap();
    regs.rip = ENTRY;
    vcpu.set_regs(&regs).unwrap();

    loop {
        match vcpu.run().unwrap() {
            VcpuExit::IoOut(COM1, data) => drop(rustix::io::write(rustix::stdio::stdout(), data).unwrap()),
            VcpuExit::IoOut(DEBUG_EXIT, [value, ..]) => return ExitCode::from(*value << 1 | 1),
            exit => panic!("the guest left for {exit:?}"),
        }
    }
}

/// Puts what is in `initrd` at the end of guest memory, from file to file: nothing is mapped or read here.
fn load(memory: &mut File, initrd: OsString) {
    let initrd = File::open(initrd).unwrap();
    let mut left = initrd.metadata().unwrap().len();
    memory.seek(SeekFrom::Start((MEMORY - left) & !4095)).unwrap();
    while left > 0 {
        let sent = sendfile(memory.as_fd(), &initrd, None, left as usize).unwrap();
        assert!(sent > 0, "the initrd became shorter");
        left -= sent as u64;
    }
}
