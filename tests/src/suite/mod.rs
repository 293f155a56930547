//! `cargo lab test`: the steps that cargo does, then the cases in the lab, then one summary.

mod calls;
mod case;
mod costs;
mod guest;
mod matrix;
pub(crate) mod promises;
mod samples;
mod schedule;
mod steps;
mod tiny;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

pub(crate) use case::{Case, Ctx, Failure, Interactive, Output, TestResult, case, ensure};
pub(crate) use guest::{GuestInitrd, QUIET};
pub(crate) use tiny::{POWERS_OFF, SAYS_READY, tiny_kernel};

use calls::Calls;
use costs::{Cost, Costs};
use matrix::Uses;

use crate::cases;
use crate::files::During;
use crate::product::{self, Product};
use crate::tool::announce;
use crate::{Error, setup};

/// How many passed, how many failed and which, and what all of it cost.
#[derive(Debug, Default)]
struct Tally {
    passed: usize,
    failed: usize,
    /// Each by its name, with what the summary says of it.
    failures: Vec<(String, String)>,
    costs: Costs,
    /// Cases and unit tests that passed, by name.
    shown: BTreeSet<String>,
    /// The options of devices that cases used which passed.
    uses: Uses,
}

impl Tally {
    fn pass(&mut self, name: &str) {
        self.passed += 1;
        self.shown.insert(name.to_owned());
    }

    /// Fails if there is something to complain of.
    fn judge(&mut self, name: &str, complaint: String) {
        match complaint.is_empty() {
            true => self.pass(name),
            false => self.fail(name, complaint),
        }
    }

    fn fail(&mut self, name: &str, why: impl Into<String>) {
        self.failed += 1;
        self.failures.push((name.to_owned(), why.into()));
    }

    fn add(&mut self, other: Tally) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.failures.extend(other.failures);
        self.costs.add(other.costs);
        self.shown.extend(other.shown);
        self.uses.merge(other.uses);
    }
}

/// What is seen when all cases have run.
const PROMISES: &str = "specification/what holds each promise has passed";
const MATRIX: &str = "specification/the device matrix is what cases have shown";

/// Runs what `filter` selects; without one everything but the cases that take long, which it names. Fails if any of it
/// does. With `rules` it is also looked for rules of the sandbox that nobody needs, which takes a whole run.
pub(crate) fn run(filter: Option<&str>, rules: bool) -> Result<ExitCode, Error> {
    let calls = rules.then(Mutex::<Calls>::default);
    let mut artefacts = setup::ensure()?;
    let selected = |name: &str| filter.is_none_or(|filter| name.contains(filter));
    let mut tally = Tally::default();
    for step in steps::all().iter().filter(|step| selected(step.name)) {
        step.run(&mut tally);
    }
    let (cases, others): (Vec<Case>, Vec<Case>) =
        cases::all().into_iter().partition(|case| case.is_selected(filter));
    let left_out: Vec<&str> = others.iter().map(|case| case.name).filter(|name| selected(name)).collect();
    for case in &cases {
        artefacts.ensure_for(&case.host)?;
    }
    if !cases.is_empty() {
        announce("building vmm for the cases");
        match Product::build() {
            Ok(product) => tally.add(schedule::run(cases, &artefacts, &product, calls.as_ref())),
            Err(e) => {
                Error::from(e).print();
                tally.fail("build vmm", "");
                cases.iter().for_each(|case| tally.fail(case.name, "vmm was not built"));
            }
        }
    }
    if let Some(calls) = calls {
        let unused = calls.into_inner().unwrap_or_else(PoisonError::into_inner).unused();
        tally.judge("no rule of the sandbox is there that nobody needs", unused.join("\n"));
    }
    // A part of the cases shows a part of the promises.
    if filter.is_none() {
        let unshown = promises::unshown(&tally.shown);
        tally.judge(PROMISES, unshown.join("\n"));
        let complaint = compare(&tally.uses.matrix())?;
        tally.judge(MATRIX, complaint);
    }
    println!("\n{}", tally.costs.table());
    for name in left_out {
        println!("not run: {name} (cargo lab test {name:?})");
    }
    for (name, why) in &tally.failures {
        println!("failed: {name}");
        why.lines().for_each(|line| println!("  | {line}"));
    }
    if tally.passed + tally.failed == 0 {
        println!("nothing is called {}", filter.unwrap_or_default());
    }
    println!("{} passed, {} failed", tally.passed, tally.failed);
    let success = tally.failed == 0 && tally.passed > 0;
    Ok(if success { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Complains if the matrix in docs/ is another one than this, which is written beside what is built.
fn compare(matrix: &str) -> Result<String, Error> {
    if matrix::is_in_docs(matrix) {
        return Ok(String::new());
    }
    let path = product::target().join("matrix.md");
    std::fs::write(&path, matrix).during("write", &path)?;
    Ok(format!("look at it, then: cp {} docs/devices/matrix.md", path.display()))
}
