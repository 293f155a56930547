//! What the operator is told of pinning: a line that moves on a terminal, one line when it is done, a file for programs.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use memory::bytes::GIB;
use memory::pin::{HelperCommand, PinError, PinReport, Progress, Record, Step};

use crate::config::Config;
use crate::stderr::say;
use crate::{files, pin_helper};

/// A start that takes less needs no moving line.
const SHORT: Duration = Duration::from_millis(300);
/// How often the line moves.
const TICK: Duration = Duration::from_millis(100);

/// Tells of one bring-up.
pub(crate) struct Teller {
    /// The devices, as they were named.
    devices: Vec<String>,
    /// Guest memory, in bytes.
    memory: u64,
    report: Option<PathBuf>,
    metrics: Option<PathBuf>,
    /// What tries out what the host allows, for the files.
    helper: Option<HelperCommand>,
    terminal: bool,
    line: Mutex<Line>,
}

/// What is on the terminal's last line.
#[derive(Default)]
struct Line {
    drawn: Option<Instant>,
    told_of_waiting: bool,
}

impl Teller {
    /// Writes the files that `config` asks for.
    pub(crate) fn new(devices: Vec<String>, memory: u64, config: &Config) -> Self {
        let (report, metrics) = (config.report.clone(), config.metrics.clone());
        let terminal = std::io::stderr().is_terminal();
        let helper = Some(HelperCommand::this_executable(pin_helper::WORD));
        Self { devices, memory, report, metrics, helper, terminal, line: Mutex::default() }
    }

    /// It goes on.
    pub(crate) fn progress(&self, progress: &Progress) {
        tracing::trace!(?progress, "pinning");
        let Ok(mut line) = self.line.lock() else { return };
        if progress.step == Step::WaitingForTurn {
            if !std::mem::replace(&mut line.told_of_waiting, true) {
                say!(
                    "vmm: another machine is being started on this host, waiting for it to pin its memory\n"
                );
            }
            return;
        }
        let fresh = line.drawn.is_some_and(|drawn| drawn.elapsed() < TICK);
        if self.terminal && progress.elapsed >= SHORT && !fresh {
            line.drawn = Some(Instant::now());
            say!("\r{}\x1b[K", text(progress));
        }
    }

    /// It is done.
    pub(crate) fn pinned(&self, report: &PinReport) {
        self.clear();
        say!("{}\n", line(report, &self.devices));
        self.write(Ok(report), &self.devices);
    }

    /// It was done for these devices while the guest ran, on whose terminal lines end so.
    pub(crate) fn pinned_later(&self, devices: &[String], report: &PinReport) {
        say!("{}\r\n", line(report, devices));
        self.write(Ok(report), devices);
    }

    /// It has failed; the error is printed elsewhere.
    pub(crate) fn failed(&self, error: &PinError) {
        self.clear();
        self.write(Err(error), &self.devices);
    }

    fn clear(&self) {
        if self.line.lock().is_ok_and(|mut line| line.drawn.take().is_some()) {
            say!("\r\x1b[K");
        }
    }

    fn write(&self, result: Result<&PinReport, &PinError>, devices: &[String]) {
        if self.report.is_none() && self.metrics.is_none() {
            return;
        }
        let record = Record::new(result, devices, self.memory, self.helper.as_ref());
        if let Some(path) = &self.report {
            let json = serde_json::to_string_pretty(&record).map_err(std::io::Error::other);
            let written = json.and_then(|json| files::replace(path, (json + "\n").as_bytes()));
            complain(path, written, "the report cannot be written");
        }
        if let Some(path) = &self.metrics {
            complain(
                path,
                files::replace(path, record.metrics().as_bytes()),
                "the metrics cannot be written",
            );
        }
    }
}

fn line(report: &PinReport, devices: &[String]) -> String {
    let devices: Vec<&str> = devices.iter().map(String::as_str).collect();
    report.line(&devices)
}

fn complain(path: &Path, written: std::io::Result<()>, what: &str) {
    if let Err(error) = written {
        tracing::error!(path = %path.display(), %error, "{what}");
    }
}

/// `pinning 12.0 of 64.0 GiB, 8.1 GiB/s, 3 retries`
fn text(progress: &Progress) -> String {
    let gib = |bytes: u64| bytes as f64 / GIB as f64;
    let step = match progress.step {
        Step::WaitingForTurn => "waiting to pin",
        Step::Populating => "populating",
        Step::Pinning => "pinning",
    };
    let rate = gib(progress.done) / progress.elapsed.as_secs_f64().max(1e-3);
    let mut text =
        format!("{step} {:.1} of {:.1} GiB, {rate:.1} GiB/s", gib(progress.done), gib(progress.total));
    if progress.retries > 0 {
        text += &format!(", {} retries", progress.retries);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_progress() {
        let progress = Progress {
            step: Step::Pinning,
            done: 12 * GIB,
            total: 64 * GIB,
            retries: 3,
            elapsed: Duration::from_secs(2),
        };
        assert_eq!(text(&progress), "pinning 12.0 of 64.0 GiB, 6.0 GiB/s, 3 retries");
    }

    #[test]
    fn a_failure_is_written_for_programs() {
        let directory = tempfile::tempdir().unwrap();
        let (path, metrics) = (directory.path().join("report.json"), directory.path().join("vmm.prom"));
        let config =
            Config { report: Some(path.clone()), metrics: Some(metrics.clone()), ..Config::default() };
        let teller = Teller {
            helper: None, // this executable is none
            ..Teller::new(vec!["0000:01:00.0".to_owned()], GIB, &config)
        };
        teller.failed(&PinError::NoPinner { reason: "none".to_owned() });
        let json: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        assert_eq!(json["schema"], "vmm-pin-report/1");
        assert_eq!((&json["outcome"], &json["failed"]["kind"]), (&"failed".into(), &"no_pinner".into()));
        assert_eq!(json["devices"][0], "0000:01:00.0");
        assert!(json["host"]["kernel"].is_string() && json.get("pinned").is_none());
        let metrics = std::fs::read_to_string(metrics).unwrap();
        assert!(metrics.contains("\nvmm_pin_success{devices=\"0000:01:00.0\"} 0\n"), "{metrics}");
    }
}
