//! A bad neighbour, for tests: holds on to random pages of guest memory, as direct I/O or another process might.
//!
//! `hold MS PAGES`: waits for a process with a populated memfd named `guest-ram`, then holds PAGES random pages of it
//! for MS milliseconds at a time (0: for good), until that process is gone. It says when it holds the first ones and, if
//! for good, their offsets. A page is held by a pipe it was spliced into (vmsplice), which takes a plain reference and
//! keeps it from being migrated.
//!
//! # Unsafe
//! mmap of the memfd, and vmsplice of its pages, which are only ever read.
#![expect(unsafe_code, reason = "mmap, vmsplice")]
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a test program")]

use std::fs::{self, File};
use std::io::{PipeReader, PipeWriter, pipe};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

const PAGE: u64 = 4096;

fn main() {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<u64>().unwrap());
    let ms = numbers.next().unwrap_or(2);
    let pages = numbers.next().unwrap_or(1);
    let (process, memfd) = loop {
        match find() {
            Some(found) => break found,
            None => thread::sleep(Duration::from_millis(2)),
        }
    };
    let size = memfd.metadata().unwrap().len();
    // SAFETY: a new mapping of a file that does not shrink.
    let base = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            size as usize,
            libc::PROT_READ,
            libc::MAP_SHARED,
            memfd.as_raw_fd(),
            0,
        )
    };
    assert_ne!(base, libc::MAP_FAILED);
    let mut random = u64::from(std::process::id()) | 1;
    let started = Instant::now();
    let mut rounds = 0u64;
    while process.exists() {
        let offsets: Vec<u64> = (0..pages)
            .map(|_| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random % (size / PAGE) * PAGE
            })
            .collect();
        let held: Vec<(PipeReader, PipeWriter)> =
            offsets.iter().map(|offset| hold(base as u64 + offset)).collect();
        rounds += 1;
        if rounds == 1 && ms > 0 {
            println!("hold: {pages} pages held");
        }
        if ms == 0 {
            println!("hold: {pages} pages held for good: {offsets:?}");
            while process.exists() {
                thread::sleep(Duration::from_millis(20));
            }
        }
        thread::sleep(Duration::from_millis(ms));
        drop(held);
    }
    println!("hold: {rounds} rounds of {pages} pages, {:.1} s", started.elapsed().as_secs_f64());
}

/// A pipe that holds the page.
fn hold(page: u64) -> (PipeReader, PipeWriter) {
    let (reader, writer) = pipe().unwrap();
    let vector = libc::iovec { iov_base: page as *mut libc::c_void, iov_len: PAGE as usize };
    // SAFETY: one page of our own mapping, which is only read.
    let spliced = unsafe { libc::vmsplice(writer.as_raw_fd(), &raw const vector, 1, 0) };
    assert_eq!(spliced, PAGE as isize, "{}", std::io::Error::last_os_error());
    (reader, writer)
}

/// A process with guest memory that is all there, and the memory.
fn find() -> Option<(PathBuf, File)> {
    for process in fs::read_dir("/proc").ok()?.flatten().map(|entry| entry.path()) {
        let is_vmm = fs::read_to_string(process.join("comm")).is_ok_and(|name| name.trim() == "vmm");
        if !is_vmm {
            continue;
        }
        for fd in fs::read_dir(process.join("fd")).into_iter().flatten().flatten() {
            if let Some(memfd) = populated(&fd.path()) {
                return Some((process, memfd));
            }
        }
    }
    None
}

fn populated(fd: &Path) -> Option<File> {
    if !fs::read_link(fd).ok()?.to_str()?.starts_with("/memfd:guest-ram") {
        return None;
    }
    let file = File::open(fd).ok()?;
    let metadata = file.metadata().ok()?;
    (metadata.len() > 0 && metadata.blocks() * 512 >= metadata.len()).then_some(file)
}
