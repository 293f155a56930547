//! `cargo lab test`: the steps that cargo does, then the cases in the lab, then one summary.

mod case;
mod costs;
mod guest;
mod samples;
mod schedule;
mod steps;
mod tiny;

use std::process::ExitCode;

pub(crate) use case::{Case, Ctx, Failure, Interactive, Output, TestResult, case, ensure};
pub(crate) use guest::{GuestInitrd, QUIET};
pub(crate) use tiny::tiny_kernel;

use costs::{Cost, Costs};

use crate::cases;
use crate::product::Product;
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
}

impl Tally {
    fn pass(&mut self) {
        self.passed += 1;
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
    }
}

/// Runs what `filter` selects; without one everything but the cases that take long, which it names. Fails if any of it
/// does.
pub(crate) fn run(filter: Option<&str>) -> Result<ExitCode, Error> {
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
            Ok(product) => tally.add(schedule::run(cases, &artefacts, &product)),
            Err(e) => {
                Error::from(e).print();
                tally.fail("build vmm", "");
                cases.iter().for_each(|case| tally.fail(case.name, "vmm was not built"));
            }
        }
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
