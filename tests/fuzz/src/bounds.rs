//! What a target may take while it handles one input: memory, and time. More ends the process, which is a finding.
//!
//! The memory is that of the heap, counted by the allocator of whatever binary this crate is part of. An allocation that is
//! never touched costs nothing and counts all the same: a length that was believed is a length that was not checked.
//!
//! # Unsafe
//!
//! The allocator is the system's; this one counts and passes on.
#![expect(unsafe_code, reason = "an allocator")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::fmt;
use std::io::Write;
use std::process::abort;
use std::sync::atomic::{AtomicBool, AtomicIsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// The most in one piece, in bytes. The largest that is meant to be is a second-level table of qcow2 with all that goes with it.
const PIECE: usize = 32 << 20;
/// The most while one input is handled, beyond what there was before, in bytes.
const ALL: isize = 128 << 20;
/// The longest that one input may take, unoptimised on a busy machine.
const LONGEST: Duration = Duration::from_secs(60);

/// Heap in use, in bytes.
static USED: AtomicIsize = AtomicIsize::new(0);
/// What was in use when the input came that is handled now.
static BEFORE: AtomicIsize = AtomicIsize::new(0);
/// Whether one is handled, on however many threads.
static WATCHING: AtomicBool = AtomicBool::new(false);

/// The system's allocator, with a limit.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

impl Counting {
    fn count(size: usize) {
        let used = USED.fetch_add(size as isize, Ordering::Relaxed) + size as isize;
        if !WATCHING.load(Ordering::Relaxed) {
            return;
        }
        if size > PIECE || used - BEFORE.load(Ordering::Relaxed) > ALL {
            WATCHING.store(false, Ordering::Relaxed);
            say(format_args!("too much memory, the last piece with {size} bytes"));
            abort();
        }
    }
}

// SAFETY: what the system's allocator guarantees is passed on as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::count(layout.size());
        // SAFETY: the caller keeps to the contract of the system's allocator, which is that of this one.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::count(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        USED.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        USED.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        Self::count(size);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// What is handled now, for people.
static NAME: Mutex<String> = Mutex::new(String::new());

/// Says what is wrong, without allocating.
fn say(what: fmt::Arguments) {
    let name = NAME.try_lock();
    let name = name.as_ref().map_or("an input", |name| name.as_str());
    let _ = writeln!(std::io::stderr(), "\nfinding: {what}: {name}");
}

/// Limits hold until it is dropped.
pub struct Watched(Option<Sender<()>>);

/// Has the limits hold for one input, which is called `name` if it does not keep to them.
pub fn watch(name: &str) -> Watched {
    name.clone_into(&mut NAME.lock().unwrap_or_else(PoisonError::into_inner));
    // libFuzzer has a clock of its own.
    let clock = (!cfg!(feature = "libfuzzer")).then(|| {
        let (done, is_done) = channel();
        thread::spawn(move || {
            if is_done.recv_timeout(LONGEST) == Err(RecvTimeoutError::Timeout) {
                say(format_args!("no end after {LONGEST:?}"));
                abort();
            }
        });
        done
    });
    BEFORE.store(USED.load(Ordering::Relaxed), Ordering::Relaxed);
    WATCHING.store(true, Ordering::Relaxed);
    Watched(clock)
}

impl Drop for Watched {
    fn drop(&mut self) {
        WATCHING.store(false, Ordering::Relaxed);
        drop(self.0.take());
    }
}
