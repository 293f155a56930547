//! Keeps the log within bounds: what is said again and again is said now and then, since guests can make us say it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::args::LogFormat;
use crate::stderr::say;

/// Messages of one kind that may come at once.
const BURST: u32 = 20;
/// Time until there may be one more.
const REFILL: Duration = Duration::from_secs(10);

/// A layer that leaves out messages, each kind (a place in the code) by itself, and tells how many it was. What is for people
/// who look into vmm itself, debug and trace, is never left out.
pub(super) struct Sparing {
    format: LogFormat,
    kinds: Mutex<HashMap<Identifier, Kind>>,
}

/// What came of one kind.
#[derive(Debug)]
struct Kind {
    /// How many may come still, as of `since`.
    left: u32,
    since: Instant,
    left_out: u64,
}

impl Sparing {
    pub(super) fn new(format: LogFormat) -> Self {
        Self { format, kinds: Mutex::default() }
    }
}

impl Kind {
    fn new(now: Instant) -> Self {
        Self { left: BURST, since: now, left_out: 0 }
    }

    /// Whether one more may come. If so, it is told how many were left out before it.
    fn admit(&mut self, now: Instant) -> Option<u64> {
        let refills = now.duration_since(self.since).as_secs() / REFILL.as_secs();
        let refills = u32::try_from(refills).unwrap_or(u32::MAX);
        self.left = self.left.saturating_add(refills).min(BURST);
        self.since = if self.left == BURST { now } else { self.since + REFILL * refills };
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                Some(std::mem::take(&mut self.left_out))
            }
            None => {
                self.left_out += 1;
                None
            }
        }
    }
}

impl<S: Subscriber> Layer<S> for Sparing {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if *metadata.level() > Level::INFO {
            return true;
        }
        let now = Instant::now();
        let admitted = {
            let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
            kinds.entry(metadata.callsite()).or_insert_with(|| Kind::new(now)).admit(now)
        };
        if let Some(left_out) = admitted.filter(|left_out| *left_out > 0) {
            let what = format!("{left_out} messages like the next were left out");
            let line = match self.format {
                LogFormat::Text => what,
                LogFormat::Json => {
                    format!(r#"{{"level":"{}","message":"{what}","left_out":{left_out}}}"#, metadata.level())
                }
            };
            say!("{line}\n");
        }
        admitted.is_some()
    }
}

#[cfg(test)]
#[path = "sparing_test.rs"]
mod tests;
