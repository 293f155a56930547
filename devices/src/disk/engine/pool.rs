//! Threads that do one request at a time. They start when there is more to do than threads that wait for it.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use sandbox::Role;
use vmm_sys_util::eventfd::EventFd;

use super::{Completion, Operation};
use crate::disk::image::Image;
use crate::sync::lock;

/// Threads of one disk, at most.
const MOST: usize = 8;

/// Where the threads put what is done.
pub(super) struct Replies {
    done: Mutex<Vec<Completion>>,
    event: EventFd,
}

impl Replies {
    pub(super) fn new(event: EventFd) -> Self {
        Self { done: Mutex::default(), event }
    }

    pub(super) fn event(&self) -> &EventFd {
        &self.event
    }

    /// Takes the signal away; what is signalled from here on is yet to be taken.
    pub(super) fn acknowledge(&self) {
        let _ = self.event.read();
    }

    /// Takes them.
    pub(super) fn take(&self) -> Vec<Completion> {
        std::mem::take(&mut lock(&self.done))
    }

    fn put(&self, token: u64, result: io::Result<()>) {
        let mut done = lock(&self.done);
        done.push(Completion { token, result });
        let first = done.len() == 1;
        drop(done);
        // Those before it have been signalled, or are about to be. A counter that is full is readable.
        if first {
            let _ = self.event.write(1);
        }
    }
}

struct Job {
    token: u64,
    operation: Operation,
    replies: Arc<Replies>,
}

/// The threads of one disk. Dropping it waits for what they were given.
pub(in crate::disk) struct Pool {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Shared {
    image: Arc<dyn Image>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    waiting: usize,
    closed: bool,
}

impl Pool {
    /// Without threads, as yet.
    pub(in crate::disk) fn new(image: Arc<dyn Image>) -> Self {
        let shared = Shared { image, state: Mutex::default(), changed: Condvar::new() };
        Self { shared: Arc::new(shared), threads: Mutex::default() }
    }

    /// What they work on.
    pub(in crate::disk) fn image(&self) -> &dyn Image {
        &*self.shared.image
    }

    /// Has something done.
    pub(super) fn submit(&self, token: u64, operation: Operation, replies: &Arc<Replies>) {
        let job = Job { token, operation, replies: Arc::clone(replies) };
        let mut state = lock(&self.shared.state);
        state.jobs.push_back(job);
        let crowded = state.jobs.len() > state.waiting;
        drop(state);
        self.shared.changed.notify_one();
        if crowded {
            self.grow();
        }
    }

    fn grow(&self) {
        let mut threads = lock(&self.threads);
        if threads.len() >= MOST {
            return;
        }
        let shared = Arc::clone(&self.shared);
        match thread::Builder::new().name("disk".to_owned()).spawn(move || shared.work()) {
            Ok(thread) => threads.push(thread),
            Err(error) if threads.is_empty() => self.shared.refuse(&error),
            Err(error) => tracing::warn!(%error, threads = threads.len(), "no more threads for a disk"),
        }
    }
}

impl Shared {
    fn work(&self) {
        Role::Device.enter();
        let mut state = lock(&self.state);
        loop {
            if let Some(job) = state.jobs.pop_front() {
                drop(state);
                let Job { token, operation, replies } = job;
                replies.put(token, perform(&*self.image, operation));
                state = lock(&self.state);
            } else if state.closed {
                return;
            } else {
                state.waiting += 1;
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.waiting -= 1;
            }
        }
    }

    /// Nobody will ever do what was asked.
    fn refuse(&self, error: &io::Error) {
        let jobs = std::mem::take(&mut lock(&self.state).jobs);
        for job in jobs {
            let error = io::Error::new(error.kind(), "no thread can be had for the disk");
            job.replies.put(job.token, Err(error));
        }
    }
}

fn perform(image: &dyn Image, operation: Operation) -> io::Result<()> {
    match operation {
        Operation::Read { offset, mut into } => image.read(&mut into, offset),
        Operation::Write { offset, mut from, durable } => {
            image.write(&mut from, offset)?;
            if durable { image.flush() } else { Ok(()) }
        }
        Operation::Flush => image.flush(),
        Operation::Discard { offset, length } => image.discard(offset, length),
        Operation::WriteZeroes { offset, length, unmap } => image.write_zeroes(offset, length, unmap),
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        lock(&self.shared.state).closed = true;
        self.shared.changed.notify_all();
        for thread in std::mem::take(&mut *lock(&self.threads)) {
            // A thread that panicked has ended the process.
            let _ = thread.join();
        }
    }
}
