//! What machines have counted, and what has changed since they were asked before.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::ctl::client::{Client, ClientError};

/// A machine that takes longer is shown as one that does not answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// The machines, as of the last look.
#[derive(Default)]
pub(super) struct Watch {
    machines: Vec<Machine>,
}

/// A machine.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    pub(super) socket: PathBuf,
    /// What it answered, or why it did not.
    pub(super) now: Result<Sample, String>,
    /// What it answered before.
    pub(super) before: Option<Sample>,
}

/// What a machine answers at some moment.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) taken: Instant,
    /// Of `vmm.ping`, `state`, `vm.info`, `vm.counters`; null where it has no answer.
    pub(super) ping: Value,
    pub(super) state: Value,
    pub(super) info: Value,
    pub(super) counters: Value,
}

impl Watch {
    /// Asks all of them.
    pub(super) fn look(&mut self, sockets: &[PathBuf]) {
        let mut before: BTreeMap<PathBuf, Machine> =
            std::mem::take(&mut self.machines).into_iter().map(|it| (it.socket.clone(), it)).collect();
        let machine = |socket: &PathBuf| Machine {
            socket: socket.clone(),
            now: Sample::take(socket).map_err(|error| error.to_string()),
            before: before.remove(socket).and_then(|machine| machine.now.ok()),
        };
        self.machines = sockets.iter().map(machine).collect();
    }

    pub(super) fn machines(&self) -> &[Machine] {
        &self.machines
    }
}

impl Sample {
    fn take(socket: &Path) -> Result<Self, ClientError> {
        let client = Client::new(socket, Some(PATIENCE));
        let json = |path: &str| match client.get(path) {
            Ok(answer) => Ok(serde_json::from_slice(&answer.body).unwrap_or_default()),
            // There is no machine, or it does not run.
            Err(ClientError::Refused { .. }) => Ok(Value::Null),
            Err(error) => Err(error),
        };
        Ok(Self {
            ping: json("/api/v1/vmm.ping")?,
            state: json("/vmm/v1/state")?,
            info: json("/api/v1/vm.info")?,
            counters: json("/api/v1/vm.counters")?,
            taken: Instant::now(),
        })
    }

    /// What a part of the machine has counted.
    pub(super) fn count(&self, part: &str, name: &str) -> u64 {
        self.counters.get(part).and_then(|counts| counts.get(name)).and_then(Value::as_u64).unwrap_or(0)
    }

    /// The names of its parts.
    pub(super) fn parts(&self) -> impl Iterator<Item = &str> {
        self.counters.as_object().into_iter().flat_map(|parts| parts.keys()).map(String::as_str)
    }
}

impl Machine {
    /// How much it has counted a second, since it was asked before. Counters that have started anew count from there.
    pub(super) fn rate(&self, part: &str, name: &str) -> f64 {
        let (Ok(now), Some(before)) = (&self.now, &self.before) else { return 0.0 };
        let seconds = now.taken.saturating_duration_since(before.taken).as_secs_f64();
        let (count, earlier) = (now.count(part, name), before.count(part, name));
        let grown = count.checked_sub(earlier).unwrap_or(count);
        if seconds > 0.0 { grown as f64 / seconds } else { 0.0 }
    }
}
