//! A thread that pins memory, maps it for devices and takes it back for others that may not do so themselves: a guest asks for it on a thread
//! that serves it, which has given up the rights that this takes.

use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::{io, thread};

use sandbox::Role;

type Job = Box<dyn FnOnce() + Send>;

/// The way to such a thread, which ends with this.
pub struct Aside(Mutex<Sender<Job>>);

/// What came of something, and who waits for that.
struct Answer<R> {
    given: Mutex<Option<R>>,
    told: Condvar,
}

impl Aside {
    /// Starts a thread of this name.
    ///
    /// # Errors
    /// There can be no more threads.
    pub fn start(name: &str) -> io::Result<Self> {
        let (sender, jobs) = channel::<Job>();
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            Role::Pin.enter();
            jobs.into_iter().for_each(|job| job());
        })?;
        Ok(Self(Mutex::new(sender)))
    }

    /// Has it do something, after what it was asked for before, and waits for that.
    pub fn ask<R: Send + 'static>(&self, what: impl FnOnce() -> R + Send + 'static) -> Option<R> {
        let answer = Arc::new(Answer { given: Mutex::new(None), told: Condvar::new() });
        let giving = answer.clone();
        let job = move || {
            let done = what();
            *giving.given.lock().unwrap_or_else(PoisonError::into_inner) = Some(done);
            giving.told.notify_all();
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).send(Box::new(job)).ok()?;
        let given = answer.given.lock().unwrap_or_else(PoisonError::into_inner);
        let mut given =
            answer.told.wait_while(given, |given| given.is_none()).unwrap_or_else(PoisonError::into_inner);
        given.take()
    }
}

#[cfg(test)]
#[path = "aside_test.rs"]
mod tests;
