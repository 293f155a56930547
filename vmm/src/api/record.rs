//! What is known of the last start: how far it is, how long its phases took, what pinning came to.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use devices::pci::PciAddress;
use memory::pin::{HelperCommand, PinError, PinReport, Progress, Record, Step};
use serde_json::{Value, json};

use crate::machine::phases::Phase;
use crate::machine::{Event, Observer};
use crate::spec::MachineSpec;

/// The record of the last start.
#[derive(Debug, Default)]
pub struct StartRecord(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    phases: Vec<Phase>,
    progress: Option<Value>,
    pinned: Option<Pinned>,
    reboots: u64,
}

/// How pinning went.
#[derive(Clone, Debug)]
enum Pinned {
    /// Well. What the host allows is asked when somebody wants to know: it takes longer than a start can spare.
    Up { report: Box<PinReport>, devices: Vec<String>, bytes: u64, helper: Option<HelperCommand> },
    /// That has been put together.
    Known(Box<Record>),
}

impl StartRecord {
    /// Another start begins.
    pub fn begin(&self) {
        *self.lock() = Known::default();
    }

    /// The phases of the start, or of the last reboot: `[{"phase", "ms", "bytes"}]`.
    pub fn phases(&self) -> Value {
        let phase = |phase: &Phase| json!({ "phase": phase.name, "ms": phase.took.as_secs_f64() * 1e3, "bytes": phase.bytes });
        self.lock().phases.iter().map(phase).collect()
    }

    /// How far pinning is, while it is under way: for a start, or for a device that is plugged in.
    pub fn progress(&self) -> Option<Value> {
        self.lock().progress.clone()
    }

    /// What pinning came to, if memory was pinned (docs/pinning-report.md).
    pub fn pin_report(&self) -> Option<Record> {
        let pinned = self.lock().pinned.clone()?;
        match pinned {
            Pinned::Up { report, devices, bytes, helper } => {
                let record = Record::new(Ok(&report), &devices, bytes, helper.as_ref());
                self.lock().pinned = Some(Pinned::Known(Box::new(record.clone())));
                Some(record)
            }
            Pinned::Known(record) => Some(*record),
        }
    }

    /// How often the guest has been reset since the start.
    pub fn reboots(&self) -> u64 {
        self.lock().reboots
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An observer that keeps the record and passes everything on.
pub(super) struct Recorder {
    pub(super) record: Arc<StartRecord>,
    pub(super) spec: MachineSpec,
    pub(super) next: Arc<dyn Observer>,
    /// Called when the guest is about to run.
    pub(super) starting: Box<dyn Fn() + Send + Sync>,
}

impl Recorder {
    fn keep_report(&self, result: Result<&PinReport, &PinError>, devices: &[PciAddress]) {
        let devices: Vec<String> = devices.iter().map(ToString::to_string).collect();
        let (bytes, helper) = (self.spec.memory, self.spec.pin.helper.clone());
        let pinned = match result {
            Ok(report) => Pinned::Up { report: Box::new(report.clone()), devices, bytes, helper },
            Err(_) => Pinned::Known(Box::new(Record::new(result, &devices, bytes, helper.as_ref()))),
        };
        let mut known = self.record.lock();
        known.progress = None;
        known.pinned = Some(pinned);
    }
}

fn json_of(progress: &Progress) -> Value {
    let step = match progress.step {
        Step::WaitingForTurn => "waiting for another start",
        Step::Populating => "populating",
        Step::Pinning => "pinning",
    };
    json!({
        "step": step,
        "done": progress.done,
        "total": progress.total,
        "retries": progress.retries,
        "ms": progress.elapsed.as_secs_f64() * 1e3,
    })
}

impl Observer for Recorder {
    fn notify(&self, event: &Event) {
        match event {
            Event::Pinning(progress) | Event::Plugging(Some(progress)) => {
                self.record.lock().progress = Some(json_of(progress));
            }
            Event::Plugging(None) => self.record.lock().progress = None,
            Event::Pinned(report) => self.keep_report(Ok(report), &self.spec.vfio.addresses()),
            Event::PinFailed(error) => self.keep_report(Err(error), &self.spec.vfio.addresses()),
            Event::Starting(phases) => {
                self.record.lock().phases = phases.to_vec();
                (self.starting)();
            }
            Event::Plugged { places, pinned: Some(report) } => {
                let devices: Vec<PciAddress> = places.iter().map(|place| place.host).collect();
                self.keep_report(Ok(report), &devices);
            }
            Event::Rebooting => self.record.lock().reboots += 1,
            _ => {}
        }
        self.next.notify(event);
    }
}

#[cfg(test)]
#[path = "record_test.rs"]
mod tests;
