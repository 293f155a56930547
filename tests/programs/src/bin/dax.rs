//! What devices do with buffers that lie in persistent memory: a file on it is mapped, and a device reads from there and writes to
//! there, past all page caches.
//!
//! `dax FILE DEVICE`: FILE, of 64 KiB at least, is on a file system that is mounted with `dax`; DEVICE is written to.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a test program")]
#![expect(unsafe_code, reason = "a mapping of a file that buffers lie in")]

use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::process::ExitCode;

/// Bytes of a half of the mapping.
const HALF: usize = 32 << 10;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match &arguments[..] {
        [file, device] => there_and_back(file, device).map(|()| println!("{device} reaches {file}")),
        _ => Err(io::Error::other("dax FILE DEVICE")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dax: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Writes the first half of the file to the device, and reads it back into the second.
fn there_and_back(file: &str, device: &str) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(file)?;
    let device = OpenOptions::new().read(true).write(true).custom_flags(libc::O_DIRECT).open(device)?;
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
    // SAFETY: a fresh mapping at an address of the kernel's choice.
    let mapped =
        unsafe { libc::mmap(std::ptr::null_mut(), 2 * HALF, protection, flags, file.as_raw_fd(), 0) };
    if mapped == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: mapped above for as long as the process lives, and used by nobody else.
    let mapped = unsafe { std::slice::from_raw_parts_mut(mapped.cast::<u8>(), 2 * HALF) };
    let (first, second) = mapped.split_at_mut(HALF);
    first
        .iter_mut()
        .zip(1_u32..)
        .for_each(|(byte, number)| *byte = (number.wrapping_mul(0x9e37_79b9) >> 24) as u8);
    second.fill(0);
    device.write_all_at(first, 0)?;
    device.read_exact_at(second, 0)?;
    if first != second { Err(io::Error::other("what came back is something else")) } else { Ok(()) }
}
