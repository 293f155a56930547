//! Running one target: a libFuzzer for each CPU, which share a corpus.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use super::Places;
use crate::files::{During, FileError};
use crate::process::bound_to_this_thread;

/// Larger inputs cost time and show little, in bytes.
const LONGEST_INPUT: usize = 1 << 16;
/// For one input, in seconds.
const LONGEST_TIME: u64 = 20;
/// Resident, of one job, in MiB. (What is allocated at once is bounded by the targets themselves.)
const MOST_RESIDENT: usize = 1024;
/// Says where a target is to keep the input that it handles, which libFuzzer loses when a stack overflows.
const KEPT: &str = "FUZZ_KEPT_INPUT";

/// What came of a target.
pub(super) struct Outcome {
    /// What each job said.
    pub(super) logs: Vec<String>,
    pub(super) took: Duration,
    /// Inputs in the corpus.
    pub(super) corpus: usize,
    /// Inputs that are findings, of this run.
    pub(super) findings: Vec<PathBuf>,
}

struct Job {
    child: Child,
    log: PathBuf,
    kept: PathBuf,
}

/// Runs a target for so long, or until each of its jobs has found something.
pub(super) fn run(binary: &Path, places: &Places, time: Duration) -> Result<Outcome, FileError> {
    let before = list(&places.findings)?;
    let started = Instant::now();
    let count = available_parallelism().map_or(1, usize::from);
    let jobs: Vec<Job> =
        (0..count).map(|number| start(binary, places, time, number)).collect::<Result<_, _>>()?;
    let mut logs = Vec::new();
    for Job { mut child, log, kept } in jobs {
        let status = child.wait().during("run", binary)?;
        let text = String::from_utf8_lossy(&fs::read(&log).during("read", &log)?).into_owned();
        if !status.success() && !text.contains("Test unit written to") {
            let finding = places.findings.join(format!("killed-{}", list(&places.findings)?.len()));
            fs::copy(&kept, &finding).during("copy", &kept)?;
        }
        logs.push(text);
    }
    let findings = list(&places.findings)?.into_iter().filter(|it| !before.contains(it)).collect();
    Ok(Outcome { logs, took: started.elapsed(), corpus: list(&places.corpus)?.len(), findings })
}

fn start(binary: &Path, places: &Places, time: Duration, number: usize) -> Result<Job, FileError> {
    let (log, kept) =
        (places.logs.join(format!("{number}.log")), places.logs.join(format!("{number}.input")));
    let output = File::create(&log).during("create", &log)?;
    let mut command = Command::new(binary);
    command.arg(format!("-max_total_time={}", time.as_secs()));
    command.arg(format!("-max_len={LONGEST_INPUT}"));
    command.arg(format!("-timeout={LONGEST_TIME}"));
    command.arg(format!("-rss_limit_mb={MOST_RESIDENT}"));
    command.arg(format!("-artifact_prefix={}/", places.findings.display()));
    command.arg("-print_final_stats=1").arg(&places.corpus).args(&places.seeds);
    command.env(KEPT, &kept).stdin(Stdio::null()).stdout(Stdio::null()).stderr(output);
    bound_to_this_thread(&mut command, Vec::new());
    let child = command.spawn().during("run", binary)?;
    Ok(Job { child, log, kept })
}

/// Feeds inputs that are there, for a look at what they do.
pub(super) fn feed(binary: &Path, inputs: &[PathBuf]) -> Result<ExitCode, crate::Error> {
    let mut command = Command::new(binary);
    let status = command.args(inputs).env("RUST_BACKTRACE", "1").status().during("run", binary)?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn list(directory: &Path) -> Result<Vec<PathBuf>, FileError> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).during("list", directory)? {
        files.push(entry.during("list", directory)?.path());
    }
    files.sort();
    Ok(files)
}
