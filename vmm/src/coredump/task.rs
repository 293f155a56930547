//! A core dump that is being written, on a thread of its own: neither the event loop nor clients wait for a disk.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};

use super::{Coredump, CoredumpError};

/// A core dump that is being written.
pub struct Dumping {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    abandoned: AtomicBool,
    over: AtomicBool,
}

impl Dumping {
    /// Begins. `answer` is called at the end, on that thread. A thread that cannot be started drops it.
    pub fn start(
        dump: Coredump,
        answer: impl FnOnce(Result<(), CoredumpError>) + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let of_thread = shared.clone();
        let thread = Builder::new().name("coredump".to_owned()).spawn(move || {
            let result = dump.write(&of_thread.abandoned);
            drop(dump);
            // Before the answer: who has it may let the guest go on.
            of_thread.over.store(true, Ordering::Release);
            answer(result);
        })?;
        Ok(Self { shared, thread })
    }

    /// Whether nothing of the guest is looked at any more.
    pub fn is_over(&self) -> bool {
        self.shared.over.load(Ordering::Acquire)
    }

    /// Gives it up; returns when nothing of the guest is looked at any more, which is as soon as a write is done that
    /// has begun.
    pub fn abandon(self) {
        self.shared.abandoned.store(true, Ordering::Relaxed);
        // It cannot panic: the release profile aborts on panic.
        let _ = self.thread.join();
    }
}
