//! Where vCPUs wait while the guest is paused: each thread hands its vCPU in and takes it back when the gate opens. While
//! all of them are in, whoever pauses has them to itself.

use std::io;
use std::sync::PoisonError;

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::ending::Ending;
use super::sync::{AtomicBool, Condvar, Mutex, MutexGuard, Ordering};

/// A gate for `T`, which is a vCPU in everything but tests.
#[derive(Debug)]
pub(super) struct Gate<T> {
    closed: AtomicBool,
    inside: Mutex<Vec<T>>,
    opened: Condvar,
    /// How many there are.
    threads: usize,
    settled: EventFd,
}

impl<T> Gate<T> {
    /// An open gate for so many threads. Fails when no eventfd is to be had.
    pub(super) fn new(threads: usize) -> io::Result<Self> {
        Ok(Self {
            closed: AtomicBool::new(false),
            inside: Mutex::new(Vec::with_capacity(threads)),
            opened: Condvar::new(),
            threads,
            settled: EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)?,
        })
    }

    /// Whether threads are to come and wait.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Goes through, at once if the gate is open or the run has ended. `key` tells one `T` from the others.
    pub(super) fn pass<K: PartialEq>(&self, vcpu: T, key: impl Fn(&T) -> K, ending: &Ending) -> T {
        if !self.is_closed() {
            return vcpu;
        }
        let own = key(&vcpu);
        let mut inside = self.lock();
        inside.push(vcpu);
        self.tell_if_settled(&inside);
        loop {
            if (!self.is_closed() || ending.is_over())
                && let Some(place) = inside.iter().position(|vcpu| key(vcpu) == own)
            {
                return inside.swap_remove(place);
            }
            inside = self.opened.wait(inside).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// From now on threads wait here. Those that are elsewhere have to be sent.
    pub(super) fn close(&self) {
        let inside = self.lock();
        self.closed.store(true, Ordering::SeqCst);
        // Closed again before anybody had gone.
        self.tell_if_settled(&inside);
    }

    fn tell_if_settled(&self, inside: &[T]) {
        if inside.len() == self.threads
            && let Err(error) = self.settled.write(1)
        {
            tracing::error!(%error, "cannot tell that the guest is paused");
        }
    }

    /// Lets everybody go on.
    pub(super) fn open(&self) {
        // Under the lock: a thread must not look at the gate just before and begin to wait just after.
        let inside = self.lock();
        self.closed.store(false, Ordering::SeqCst);
        drop(inside);
        self.opened.notify_all();
    }

    /// Lets those go on that have to because the run has ended.
    pub(super) fn wake(&self) {
        drop(self.lock());
        self.opened.notify_all();
    }

    /// Works on all of them if all are here.
    pub(super) fn with_all<R>(&self, work: impl FnOnce(&mut [T]) -> R) -> Option<R> {
        let mut inside = self.lock();
        (self.is_closed() && inside.len() == self.threads).then(|| work(&mut inside))
    }

    /// Becomes readable when all of them are here.
    pub(super) fn settled(&self) -> &EventFd {
        &self.settled
    }

    fn lock(&self) -> MutexGuard<'_, Vec<T>> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
