//! Raises interrupts of a passed-through device as its driver on the host would, for devices that raise too few themselves:
//!
//! - `raise msi PID COUNT` has VFIO signal the first COUNT MSI vectors of the only device that the process PID has open.
//!
//! # Unsafe
//! Descriptors of another process, and an ioctl of VFIO's.
#![expect(unsafe_code, reason = "pidfd_getfd, ioctls")]
#![expect(clippy::panic, clippy::print_stdout, clippy::unwrap_used, reason = "a test program")]

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

/// `VFIO_DEVICE_SET_IRQS`, its flags and index (linux/vfio.h).
const SET_IRQS: libc::Ioctl = 0x3b6e;
const DATA_NONE: u32 = 1 << 0;
const ACTION_TRIGGER: u32 = 1 << 5;
const MSI: u32 = 1;

#[repr(C)]
struct IrqSet {
    size: u32,
    flags: u32,
    index: u32,
    start: u32,
    count: u32,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let ["msi", process, count] = words[..] else { panic!("raise msi PID COUNT") };
    let device = device(process.parse().unwrap());
    for start in 0..count.parse().unwrap() {
        let set = IrqSet {
            size: size_of::<IrqSet>() as u32,
            flags: DATA_NONE | ACTION_TRIGGER,
            index: MSI,
            start,
            count: 1,
        };
        // SAFETY: the kernel reads a set of the size that it says.
        let done = unsafe { libc::ioctl(device.as_raw_fd(), SET_IRQS, &raw const set) };
        assert_eq!(done, 0, "vector {start}: {}", io::Error::last_os_error());
    }
    println!("raised {count}");
}

/// The VFIO device that a process has open, through a group or by itself.
fn device(process: i32) -> OwnedFd {
    let is_device = |path: &str| path.starts_with("/dev/vfio/devices/") || path == "anon_inode:[vfio-device]";
    let found = fs::read_dir(format!("/proc/{process}/fd"))
        .unwrap()
        .flatten()
        .find(|entry| fs::read_link(entry.path()).is_ok_and(|path| path.to_str().is_some_and(is_device)));
    let number = found.unwrap().file_name().to_str().unwrap().parse().unwrap();
    let process = pidfd_open(Pid::from_raw(process).unwrap(), PidfdFlags::empty()).unwrap();
    pidfd_getfd(process, number, PidfdGetfdFlags::empty()).unwrap()
}
