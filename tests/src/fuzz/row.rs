//! What a run of a target came to, read from what libFuzzer said.

use std::path::PathBuf;

use super::job::Outcome;

/// A row of the table.
#[derive(Debug, PartialEq)]
pub(super) struct Row {
    target: String,
    executions: u64,
    /// Edges of the code that were taken, by the job that took most.
    edges: u64,
    corpus: usize,
    seconds: f64,
    findings: Vec<PathBuf>,
}

impl Row {
    pub(super) fn of(target: &str, outcome: Outcome) -> Self {
        let Outcome { logs, took, corpus, findings } = outcome;
        Self {
            target: target.to_owned(),
            executions: logs.iter().map(|log| executions(log)).sum(),
            edges: logs.iter().map(|log| edges(log)).max().unwrap_or(0),
            corpus,
            seconds: took.as_secs_f64(),
            findings,
        }
    }

    pub(super) fn cells(&self) -> [String; 7] {
        [
            self.target.clone(),
            self.executions.to_string(),
            format!("{:.0}", self.executions as f64 / self.seconds.max(0.001)),
            self.edges.to_string(),
            self.corpus.to_string(),
            format!("{:.0}", self.seconds),
            self.findings.len().to_string(),
        ]
    }

    /// Each finding, and how to see it again.
    pub(super) fn told(&self) -> Vec<String> {
        let told = |path: &PathBuf| {
            let (path, target) = (path.display(), &self.target);
            format!("found: {path}\n       cargo lab fuzz {target} --input {path}")
        };
        self.findings.iter().map(told).collect()
    }
}

/// `stat::number_of_executed_units: 5023`, which a job that found something says as well; else as far as it said.
fn executions(log: &str) -> u64 {
    let last =
        log.lines().filter_map(|line| line.strip_prefix("stat::number_of_executed_units:")).next_back();
    let last = last.and_then(|count| count.trim().parse().ok());
    last.or_else(|| log.lines().filter_map(progress).next_back()).unwrap_or(0)
}

/// The number in `#5023 NEW cov: 1770 ft: 2935 corp: ..`.
fn progress(line: &str) -> Option<u64> {
    line.strip_prefix('#')?.split_whitespace().next()?.parse().ok()
}

fn edges(log: &str) -> u64 {
    let cov = |line: &str| {
        progress(line)?;
        line.split_once("cov: ")?.1.split_whitespace().next()?.parse().ok()
    };
    log.lines().filter_map(cov).max().unwrap_or(0)
}

#[cfg(test)]
#[path = "row_test.rs"]
mod tests;
