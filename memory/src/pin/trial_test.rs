#![expect(unsafe_code, reason = "drops a capability of one thread")]

use super::*;
use crate::bytes::MIB;
use crate::pin::Chunk;
use crate::pin::serial;
use crate::residency::{Surveyor, Vmstat};
use crate::{AddressLimits, GuestRam, Layout};

/// 64 MiB, or what anyone may pin where the tests run without privileges.
fn size() -> u64 {
    if Memlock::read().allows(64 * MIB) { 64 * MIB } else { 4 * MIB }
}

/// A ring, unless the machine the tests run on has none to give.
fn ring(slots: u32) -> Option<TrialRing> {
    TrialRing::new(slots).inspect_err(|reason| eprintln!("trial pins cannot be tested here: {reason}")).ok()
}

/// Waits until VmPin is back at `kib`: kernels before 6.13 unpin later than asked.
fn settle(kib: u64) {
    for _ in 0..500 {
        if status("VmPin") == kib {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert_eq!(status("VmPin"), kib);
}

fn first_chunk(ram: &GuestRam) -> Chunk {
    ram.chunks(size())[0]
}

fn ram(size: u64) -> GuestRam {
    GuestRam::new(&Layout::new(size, &AddressLimits::cpu_only(46)).unwrap()).unwrap()
}

/// A field of `/proc/self/status` in KiB.
fn status(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let value = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    value.trim_start_matches(':').split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn pins_faults_in_and_lets_go() {
    let _alone = serial();
    let ram = ram(64 * MIB);
    let chunk = first_chunk(&ram);
    let Some(ring) = ring(4) else { return };
    settle(0);
    let (before, vm_pin, vm_lck) = (Vmstat::read().unwrap(), status("VmPin"), status("VmLck"));

    ring.pin(2, chunk.hva, chunk.guest.size).unwrap();
    assert_eq!((status("VmPin") - vm_pin, status("VmLck") - vm_lck), (size() / 1024, 0));
    let census = Surveyor::new().census(&[chunk]).unwrap();
    assert_eq!((census.absent, census.is_exact() && census.in_cma() + census.movable > 0), (0, false));
    // The counter lags by less than 128 pages a CPU.
    let slack = 128 * std::thread::available_parallelism().unwrap().get() as u64;
    let pinned = Vmstat::read().unwrap().since(&before);
    assert!(pinned.nr_foll_pin_acquired + slack >= size() / 4096, "{pinned:?}");

    ring.release(2);
    settle(vm_pin);
    let released = Vmstat::read().unwrap().since(&before);
    assert!(released.nr_foll_pin_released + slack >= size() / 4096, "{released:?}");
    assert_eq!(Surveyor::new().census(&[chunk]).unwrap().absent, 0);
}

#[test]
fn slots_are_independent() {
    let _alone = serial();
    let ram = ram(64 * MIB);
    let chunks = &ram.chunks(size() / 4)[..4];
    let Some(ring) = ring(4) else { return };
    settle(0);
    let vm_pin = status("VmPin");
    for (slot, chunk) in (0..).zip(chunks) {
        ring.pin(slot, chunk.hva, chunk.guest.size).unwrap();
    }
    assert_eq!(status("VmPin") - vm_pin, size() / 1024);
    ring.release(1);
    settle(vm_pin + size() / 4 * 3 / 1024);
    drop(ring);
    settle(vm_pin);
}

#[test]
fn a_refused_pin_leaves_nothing() {
    let _alone = serial();
    let ram = ram(64 * MIB);
    let chunk = first_chunk(&ram);
    let Some(ring) = ring(1) else { return };
    settle(0);
    let vm_pin = status("VmPin");
    let pin = |slot, chunk: &Chunk| ring.pin(slot, chunk.hva, chunk.guest.size);
    let errno = |chunk: &Chunk| pin(0, chunk).unwrap_err().raw_os_error();
    let beyond = Chunk { guest: crate::GuestRange::new(0, 64 * MIB + 4096), ..chunk };
    assert_eq!(errno(&beyond), Some(libc::EFAULT));
    let oversized = Chunk { guest: crate::GuestRange::new(0, MAX_TRIAL + 4096), ..chunk };
    assert_eq!(errno(&oversized), Some(libc::EFAULT));
    assert!(pin(1, &chunk).is_err());
    assert_eq!(status("VmPin"), vm_pin);
    pin(0, &chunk).unwrap();
}

#[test]
fn the_memlock_limit_is_told_apart() {
    use crate::pin::kernel::{Host, Kernel};
    let _alone = serial();
    if ring(1).is_none() {
        return;
    }
    let limit = 4 * MIB;
    let before = soft_memlock(Some(limit));
    let judged = std::thread::spawn(move || {
        drop_capabilities();
        let ram = ram(16 * MIB);
        let options = crate::pin::PinOptions::default();
        let host = Host::new(&ram, &options);
        let stop = std::sync::atomic::AtomicBool::new(false);
        let refused =
            host.trial(Pinner::OwnIoUring, limit + 4096, &stop).err().map(|error| error.to_string());
        let chunk = ram.chunks(GIB)[0];
        let pinned = TrialRing::new(1).unwrap().pin(0, chunk.hva, chunk.guest.size);
        (host.memlock().limit, refused, pinned.unwrap_err().raw_os_error())
    })
    .join();
    soft_memlock(before);
    let (read, refused, pinned) = judged.unwrap();
    assert_eq!((read, pinned), (Some(limit), Some(libc::ENOMEM)));
    assert_eq!(refused.as_deref(), Some("a trial pin of 4100 KiB exceeds RLIMIT_MEMLOCK (4 MiB)"));
}

/// Sets the soft RLIMIT_MEMLOCK, `None` for as high as it goes, and returns the former one.
fn soft_memlock(bytes: Option<u64>) -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls take a valid rlimit.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit), 0);
        let before = limit.rlim_cur;
        limit.rlim_cur = bytes.unwrap_or(u64::MAX).min(limit.rlim_max);
        assert_eq!(libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit), 0);
        Some(before)
    }
}

/// Drops all capabilities of the calling thread.
fn drop_capabilities() {
    // struct __user_cap_header_struct { version, pid } and two __user_cap_data_struct of three words each.
    let header = [0x2008_0522u32, 0];
    let data = [0u32; 6];
    // SAFETY: both point to as many words as capset reads for version 3; pid 0 is the calling thread.
    let done = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) };
    assert_eq!(done, 0, "{}", io::Error::last_os_error());
}

#[test]
fn reasons_are_told() {
    let reason = |errno| setup_refused(io::Error::from_raw_os_error(errno)).to_string();
    assert_eq!(reason(libc::ENOSYS), "the kernel has no io_uring");
    let forbidden = reason(libc::EPERM);
    assert!(forbidden.contains("forbidden") || forbidden.contains("io_uring_disabled"), "{forbidden}");
    assert!(reason(libc::ENOMEM).contains("cannot be set up"));
}
