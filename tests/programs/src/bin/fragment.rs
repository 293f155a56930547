//! A host without huge pages, for tests: leaves the free memory that can be pinned in pieces of less than 1 MiB.
//!
//! Allocates almost all free memory outside CMA and ZONE_MOVABLE, one page after the other, then gives back all but every
//! 256th. What is kept is pinned, so compaction cannot move it together. Then takes what huge pages are left. Says how
//! much that was, and keeps it until it is killed.
//!
//! # Unsafe
//! mmap, and registering the memory as io_uring buffers, which is what allocates and pins it.
#![expect(unsafe_code, reason = "mmap, io_uring")]
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a test program")]

use std::fs::{self, File};
use std::os::fd::AsRawFd;

use io_uring::IoUring;
use memory::PAGE_SIZE;
use memory::bytes::{GIB, MIB};
use memory::residency::{Meminfo, Zones};
use rustix::fs::{FallocateFlags, MemfdFlags};

/// Left alone beyond what the kernel keeps for itself.
const MARGIN: u64 = 48 * MIB;
const HUGE: u64 = 2 * MIB;

fn main() {
    let free = Meminfo::read().unwrap();
    let zones = Zones::read().unwrap();
    let kept_by_kernel: u64 = zones.0.iter().map(|zone| zone.low * PAGE_SIZE).sum();
    let out_of_reach = free.cma_free + zones.free_movable() * PAGE_SIZE + kept_by_kernel + MARGIN;
    let size = free.free.saturating_sub(out_of_reach) / MIB * MIB;
    let memfd = File::from(rustix::fs::memfd_create("fragments", MemfdFlags::CLOEXEC).unwrap());
    memfd.set_len(size).unwrap();
    let base = map(Some(&memfd), size);
    advise(base, size, libc::MADV_NOHUGEPAGE);
    let whole: Vec<_> =
        (0..size).step_by(GIB as usize).map(|at| vector(base + at, GIB.min(size - at))).collect();
    let kept: Vec<_> = (0..size).step_by(MIB as usize).map(|at| vector(base + at, PAGE_SIZE)).collect();
    let everything = pin(&whole);
    let _kept = pin(&kept);
    everything.submitter().unregister_buffers().unwrap();
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    for at in (0..size).step_by(MIB as usize) {
        rustix::fs::fallocate(&memfd, punch, at + PAGE_SIZE, MIB - PAGE_SIZE).unwrap();
    }
    let huge = take_huge_pages();
    println!("fragment: {} MiB in pieces, {} huge pages taken", size / MIB, huge.len());
    loop {
        std::thread::park();
    }
}

/// Takes huge pages until the kernel has none.
fn take_huge_pages() -> Vec<IoUring> {
    let size = Meminfo::read().unwrap().free + HUGE;
    let base = map(None, size);
    advise(base, size, libc::MADV_HUGEPAGE);
    let mut taken = Vec::new();
    let first = base.next_multiple_of(HUGE);
    for at in (first..base + size - HUGE).step_by(HUGE as usize) {
        let before = fallbacks();
        let ring = pin(&[vector(at, HUGE)]);
        if fallbacks() > before {
            break;
        }
        taken.push(ring);
    }
    taken
}

/// How often a huge page was wanted and was not to be had.
fn fallbacks() -> u64 {
    let vmstat = fs::read_to_string("/proc/vmstat").unwrap();
    let value = vmstat.lines().find_map(|line| line.strip_prefix("thp_fault_fallback ")).unwrap();
    value.parse().unwrap()
}

/// Maps all of `memfd`, or memory of its own.
fn map(memfd: Option<&File>, size: u64) -> u64 {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let (fd, flags) = match memfd {
        Some(memfd) => (memfd.as_raw_fd(), libc::MAP_SHARED),
        None => (-1, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE),
    };
    // SAFETY: a new mapping at an address of the kernel's choice.
    let base = unsafe { libc::mmap(std::ptr::null_mut(), size as usize, access, flags, fd, 0) };
    assert_ne!(base, libc::MAP_FAILED);
    base as u64
}

fn advise(base: u64, size: u64, advice: i32) {
    // SAFETY: a mapping of ours; both advices only choose the size of its pages.
    let advised = unsafe { libc::madvise(base as *mut libc::c_void, size as usize, advice) };
    assert_eq!(advised, 0, "{}", std::io::Error::last_os_error());
}

fn vector(address: u64, size: u64) -> libc::iovec {
    libc::iovec { iov_base: address as *mut libc::c_void, iov_len: size as usize }
}

/// Faults in what is not there, outside CMA and ZONE_MOVABLE, and pins it until the ring is gone.
fn pin(buffers: &[libc::iovec]) -> IoUring {
    let ring = IoUring::new(1).unwrap();
    // SAFETY: the buffers lie in a mapping that stays, and no request uses them.
    unsafe { ring.submitter().register_buffers(buffers) }.unwrap();
    ring
}
