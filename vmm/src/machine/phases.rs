//! How long each phase of the start took.

use std::time::{Duration, Instant};

/// One phase of the start.
#[derive(Clone, Copy, Debug)]
pub struct Phase {
    /// What was done.
    pub name: &'static str,
    /// How long it took.
    pub took: Duration,
    /// Bytes brought up in it, where that says something.
    pub bytes: Option<u64>,
}

/// Measures phases one after another.
#[derive(Debug)]
pub struct Phases {
    since: Instant,
    done: Vec<Phase>,
}

impl Phases {
    /// Starts the clock.
    pub fn start() -> Self {
        Self { since: Instant::now(), done: Vec::new() }
    }

    /// The phase that began with the last call ends here.
    pub fn done(&mut self, name: &'static str) {
        self.moved(name, None);
    }

    /// As [`Phases::done`], for a phase that brought up `bytes`.
    pub fn moved(&mut self, name: &'static str, bytes: Option<u64>) {
        let now = Instant::now();
        self.done.push(Phase { name, took: now - self.since, bytes });
        self.since = now;
    }

    /// All so far.
    pub fn list(&self) -> &[Phase] {
        &self.done
    }
}
