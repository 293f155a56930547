//! Who holds a worker's trial pins: the best pinner that is to be had, the next one when it fails for good.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::kernel::{Kernel, PinFault, Trial};
use super::trial::{Loss, Pinner, TrialUnavailable};

/// How often a helper that dies is started again.
const LIVES: u32 = 3;

/// A worker's pinners, best first.
pub(super) struct Pinners<'a> {
    kernel: &'a dyn Kernel,
    unit: u64,
    stop: &'a AtomicBool,
    /// Not yet tried, best last.
    left: Vec<Pinner>,
    current: Option<(Box<dyn Trial + 'a>, Pinner)>,
    /// The one in use; `None` before the first and after the last.
    chosen: Option<Pinner>,
    deaths: u32,
    /// Why nothing is tried in this process that a helper did not survive.
    hazard: Option<String>,
    /// How long has been waited for helpers that did not start.
    wasted: Duration,
    passed_over: Vec<String>,
}

impl<'a> Pinners<'a> {
    /// All of `kernel`'s, for units of up to `unit` bytes.
    pub(super) fn new(kernel: &'a dyn Kernel, unit: u64, stop: &'a AtomicBool) -> Self {
        let left: Vec<Pinner> = kernel.pinners().iter().rev().copied().collect();
        Self {
            kernel,
            unit,
            stop,
            left,
            current: None,
            chosen: None,
            deaths: 0,
            hazard: None,
            wasted: Duration::ZERO,
            passed_over: Vec::new(),
        }
    }

    /// Something to take trial pins with, if there is still anything.
    pub(super) fn trial(&mut self) -> Option<(&mut (dyn Trial + 'a), Pinner)> {
        while self.current.is_none() {
            let pinner = match self.chosen {
                Some(pinner) => pinner,
                None => self.left.pop()?,
            };
            if let (Some(hazard), Pinner::OwnIoUring) = (&self.hazard, pinner) {
                self.pass_over(pinner, format!("io_uring is not risked in this process: {hazard}"));
                continue;
            }
            let asked = self.kernel.now();
            match self.kernel.trial(pinner, self.unit, self.stop) {
                Ok(trial) => {
                    self.current = Some((trial, pinner));
                    self.chosen = Some(pinner);
                }
                Err(reason) => {
                    if let TrialUnavailable::HelperLost { loss, how } = &reason {
                        self.beware(*loss, how);
                        self.wasted += self.kernel.now().saturating_sub(asked);
                    }
                    self.pass_over(pinner, reason.to_string());
                }
            }
        }
        self.current.as_mut().map(|(trial, pinner)| (trial.as_mut(), *pinner))
    }

    /// The current one is gone. It gets another life, unless it has had enough.
    pub(super) fn lost(&mut self, loss: Loss, how: String) {
        let Some((_, pinner)) = self.current.take() else { return };
        self.beware(loss, &how);
        if loss == Loss::Stalled {
            return;
        }
        self.deaths += 1;
        // A filter kills the next one as well.
        if self.deaths >= LIVES || loss == Loss::Forbidden {
            self.pass_over(pinner, TrialUnavailable::HelperLost { loss, how }.to_string());
        }
    }

    /// What a helper did not survive we would not, either: a filter kills, and a call that does not come back must not be made
    /// where it cannot be killed.
    fn beware(&mut self, loss: Loss, how: &str) {
        if loss != Loss::Died {
            self.hazard = Some(how.to_owned());
        }
    }

    /// How long has been waited in vain for helpers to start since this was asked last.
    pub(super) fn wasted(&mut self) -> Duration {
        std::mem::take(&mut self.wasted)
    }

    /// No more trial pins.
    pub(super) fn give_up(&mut self, reason: String) {
        self.current = None;
        self.chosen = None;
        self.left.clear();
        self.passed_over.push(reason);
    }

    /// Gives back all trial pins.
    pub(super) fn release(&mut self) {
        if let Some((trial, _)) = &mut self.current {
            trial.release();
        }
    }

    /// Whether the trial pins that were taken hold. If not, the current one is gone.
    pub(super) fn hold(&mut self) -> bool {
        let Some((trial, _)) = &mut self.current else { return false };
        match trial.check() {
            Err(PinFault::Lost { loss, how }) => {
                self.lost(loss, how);
                false
            }
            Ok(()) | Err(PinFault::Refused(_)) => true,
        }
    }

    /// The one in use.
    pub(super) fn current(&self) -> Option<Pinner> {
        self.chosen
    }

    /// Why others are not.
    pub(super) fn passed_over(&self) -> &[String] {
        &self.passed_over
    }

    fn pass_over(&mut self, pinner: Pinner, reason: String) {
        tracing::debug!(pinner = pinner.name(), reason, "no trial pins of this kind");
        self.passed_over.push(reason);
        self.chosen = None;
        self.deaths = 0;
    }
}

#[cfg(test)]
#[path = "pinners_test.rs"]
mod tests;
