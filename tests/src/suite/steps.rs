//! The steps of the test run that cargo does, each on the whole workspace.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::{Cost, Tally, promises};
use crate::cpu;
use crate::product::cargo;
use crate::tool::announce;

/// Crates that share types with each other: of each there is to be one version. A name or the start of one.
const RUST_VMM: [&str; 13] = [
    "acpi_tables",
    "event-manager",
    "iommufd-",
    "kvm-",
    "linux-loader",
    "seccompiler",
    "vfio-",
    "vhost",
    "virtio-",
    "vm-",
    "vm_",
    "vmm-sys-util",
    "vfio_user",
];

/// A cargo command and how its output is judged.
pub(super) struct Step {
    pub(super) name: &'static str,
    arguments: &'static [&'static str],
    judge: fn(success: bool, output: &str) -> Verdict,
}

/// What a step counts for.
#[derive(Debug, PartialEq, Eq)]
struct Verdict {
    passed: usize,
    failed: usize,
    /// What is wrong, where the command's output does not say it.
    remark: Option<String>,
}

/// Every step, in the order in which they run: the quick ones first.
pub(super) fn all() -> Vec<Step> {
    vec![
        Step { name: "format", arguments: &["fmt", "--all", "--check"], judge: by_status },
        Step { name: "duplicate crates", arguments: DUPLICATES, judge: no_duplicates },
        Step { name: "lints", arguments: LINTS, judge: by_status },
        Step { name: "unit tests", arguments: &["test", "--workspace", "--no-fail-fast"], judge: by_tests },
    ]
}

const DUPLICATES: &[&str] =
    &["tree", "--workspace", "--edges", "normal", "--duplicates", "--depth", "0", "--prefix", "none"];
const LINTS: &[&str] = &["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"];

impl Step {
    /// Runs it and counts it; shows its output only if it failed.
    pub(super) fn run(&self, tally: &mut Tally) {
        announce(&format!("{}: cargo {}", self.name, self.arguments.join(" ")));
        let started = Instant::now();
        let output = cpu::output(&mut cargo(self.arguments));
        let wall = started.elapsed();
        let (verdict, text, cpu) = match output {
            Ok((output, cpu)) => {
                let stdout = String::from_utf8_lossy(&output.stdout);
                tally.shown.extend(promises::passed(&stdout));
                let verdict = (self.judge)(output.status.success(), &stdout);
                (verdict, format!("{}{stdout}", String::from_utf8_lossy(&output.stderr)), cpu)
            }
            Err(e) => {
                let remark = Some(format!("cannot run cargo: {e}"));
                (Verdict { passed: 0, failed: 1, remark }, String::new(), Duration::ZERO)
            }
        };
        let cost = Cost { cpu, wall };
        tally.costs.step(self.name, cost);
        let word = if verdict.failed == 0 { "ok    " } else { "FAILED" };
        println!("{word} {} ({} passed, {} failed, {cost})", self.name, verdict.passed, verdict.failed);
        tally.passed += verdict.passed;
        if verdict.failed > 0 {
            let remark = verdict.remark.unwrap_or_default();
            println!("{text}\n{remark}");
            tally.failed += verdict.failed;
            tally.failures.push((self.name.to_owned(), remark));
        }
    }
}

fn by_status(success: bool, _: &str) -> Verdict {
    Verdict { passed: usize::from(success), failed: usize::from(!success), remark: None }
}

/// Every test counts; so does a failure to get as far as running them.
fn by_tests(success: bool, output: &str) -> Verdict {
    let results = output.lines().filter_map(|line| line.strip_prefix("test result: "));
    let (mut passed, mut failed) = (0, 0);
    for result in results {
        let count = |word: &str| -> usize {
            let before = result.split(word).next().unwrap_or_default();
            before.split_whitespace().next_back().and_then(|number| number.parse().ok()).unwrap_or(0)
        };
        passed += count(" passed;");
        failed += count(" failed;");
    }
    if !success && failed == 0 {
        failed = 1;
    }
    Verdict { passed, failed, remark: None }
}

fn no_duplicates(success: bool, output: &str) -> Verdict {
    if !success {
        return by_status(success, output);
    }
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (name, rest) in output.lines().filter_map(|line| line.split_once(" v")) {
        let version = rest.split_whitespace().next().unwrap_or(rest);
        versions.entry(name).or_default().insert(version);
    }
    let twice = |(name, versions): (&str, BTreeSet<&str>)| {
        let ours = RUST_VMM.iter().any(|known| name.starts_with(known));
        let list = versions.into_iter().collect::<Vec<_>>();
        (ours && list.len() > 1).then(|| format!("{name} in versions {}", list.join(" and ")))
    };
    let found: Vec<String> = versions.into_iter().filter_map(twice).collect();
    let remark = (!found.is_empty()).then(|| found.join("\n"));
    Verdict { remark, ..by_status(found.is_empty(), output) }
}

#[cfg(test)]
#[path = "steps_test.rs"]
mod tests;
