//! A bad neighbour, for tests: holds on to random pages of guest memory, as direct I/O or another process might.
//!
//! `hold MS PAGES [MS PAGES].. [-- COMMAND..]`: each pair is a holder, which holds PAGES random pages for MS milliseconds
//! at a time (0: for good), as long as the process whose memory it is runs. That is COMMAND, else the first `vmm` that
//! turns up with a memfd named `guest-ram`. Only pages that exist are held, as soon as they do. A page is held by a
//! pipe it was spliced into (vmsplice), which takes a plain reference and keeps it from being migrated. It says when it
//! holds the first ones and, if for good, their offsets.
//!
//! # Unsafe
//! mmap of the memfd, and vmsplice of its pages, which are only ever read.
#![expect(unsafe_code, reason = "mmap, vmsplice")]
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a test program")]

use std::fs::{self, File};
use std::io::{PipeReader, PipeWriter, pipe};
use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

const PAGE: u64 = 4096;
/// Between two looks for something that is not there yet.
const LOOK: Duration = Duration::from_millis(1);
/// Between two looks whether a process that is not ours still runs.
const WATCH: Duration = Duration::from_millis(20);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut parts = arguments.split(|argument| argument == "--");
    let numbers = parts.next().unwrap_or_default();
    let command = parts.next().unwrap_or_default();
    let numbers: Vec<u64> = numbers.iter().map(|text| text.parse().unwrap()).collect();
    let over = Over::default();
    if let [program, rest @ ..] = command {
        let mut child = Command::new(program).args(rest).spawn().unwrap();
        let process = Path::new("/proc").join(child.id().to_string());
        let status = thread::scope(|scope| {
            start(scope, &numbers, &process, &over);
            let status = child.wait().unwrap();
            over.tell();
            status
        });
        let status = status.code().or(status.signal().map(|signal| 128 + signal));
        return ExitCode::from(u8::try_from(status.unwrap_or(126)).unwrap_or(126));
    }
    let process = loop {
        match find() {
            Some(process) => break process,
            None => thread::sleep(LOOK),
        }
    };
    thread::scope(|scope| {
        start(scope, &numbers, &process, &over);
        while process.exists() {
            thread::sleep(WATCH);
        }
        over.tell();
    });
    ExitCode::SUCCESS
}

fn start<'a>(scope: &'a thread::Scope<'a, '_>, numbers: &'a [u64], process: &'a Path, over: &'a Over) {
    for (seed, pair) in numbers.as_chunks().0.iter().enumerate() {
        let [ms, pages] = *pair;
        scope.spawn(move || hold_on(process, ms, pages, seed as u64, over));
    }
}

/// Holds pages of the memory of `process` until that is over.
fn hold_on(process: &Path, ms: u64, pages: u64, seed: u64, over: &Over) {
    let memfd = loop {
        match guest_memory(process) {
            Some(memfd) => break memfd,
            None if over.within(LOOK) => return println!("hold: no guest memory"),
            None => (),
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
    let mut random = (u64::from(std::process::id()) << 8) + (seed << 1) + 1;
    let started = Instant::now();
    let mut rounds = 0u64;
    let mut ended = false;
    while !ended {
        let mut held: Vec<(PipeReader, PipeWriter)> = Vec::new();
        let mut offsets = Vec::new();
        while (held.len() as u64) < pages && !ended {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let offset = random % (size / PAGE) * PAGE;
            // For good means this very page, wherever it is: not those that happen to be there first.
            while !exists(&memfd, offset) && ms == 0 && !ended {
                ended = over.within(LOOK);
            }
            if exists(&memfd, offset) {
                held.push(hold(base as u64 + offset));
                offsets.push(offset);
            } else {
                ended = over.within(Duration::ZERO);
            }
        }
        if held.len() as u64 == pages {
            rounds += 1;
        }
        match (ms, rounds) {
            (0, 1) => println!("hold: {pages} pages held for good: {offsets:?}"),
            (_, 1) => println!("hold: {pages} pages held"),
            _ => (),
        }
        ended = ended || over.within(if ms == 0 { Duration::MAX } else { Duration::from_millis(ms) });
    }
    println!("hold: {rounds} rounds of {pages} pages, {:.1} s", started.elapsed().as_secs_f64());
}

/// Whether there is a page at `offset`; looking makes none.
fn exists(memfd: &File, offset: u64) -> bool {
    rustix::fs::seek(memfd, rustix::fs::SeekFrom::Data(offset)).is_ok_and(|data| data == offset)
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

/// A process called `vmm` with guest memory.
fn find() -> Option<PathBuf> {
    let processes = fs::read_dir("/proc").ok()?.flatten().map(|entry| entry.path());
    let is_vmm = |process: &PathBuf| {
        fs::read_to_string(process.join("comm")).is_ok_and(|name| name.trim() == "vmm")
            && guest_memory(process).is_some()
    };
    processes.into_iter().find(is_vmm)
}

/// The guest memory of `process`, once it has its size.
fn guest_memory(process: &Path) -> Option<File> {
    let fds = fs::read_dir(process.join("fd")).ok()?.flatten().map(|entry| entry.path());
    let is_guest_ram =
        |fd: &PathBuf| fs::read_link(fd).is_ok_and(|to| to.to_string_lossy().starts_with("/memfd:guest-ram"));
    let memfd = File::open(fds.into_iter().find(is_guest_ram)?).ok()?;
    (memfd.metadata().ok()?.len() > 0).then_some(memfd)
}

/// Set once, when the process has ended.
#[derive(Default)]
struct Over {
    flag: Mutex<bool>,
    changed: Condvar,
}

impl Over {
    fn tell(&self) {
        *self.flag.lock().unwrap() = true;
        self.changed.notify_all();
    }

    /// Whether it ends within `time`.
    fn within(&self, time: Duration) -> bool {
        let flag = self.flag.lock().unwrap();
        if time == Duration::MAX {
            return *self.changed.wait_while(flag, |over| !*over).unwrap();
        }
        *self.changed.wait_timeout_while(flag, time, |over| !*over).unwrap().0
    }
}
