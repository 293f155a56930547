//! `cargo lab bench pin`: the pinning campaign. Starts by every strategy, with pages of both sizes, under every load; a
//! start is `vmm check --pin` or, for comparison, a program that does what established monitors do.
//!
//! It fails unless others fail and we never do; see `verdict`.

mod load;
mod plan;
mod row;
mod start;
mod verdict;

use std::process::ExitCode;
use std::time::Instant;

use serde::Serialize;

use super::table;
use crate::cli::BenchOptions;
use crate::files::During;
use crate::host::{Host, HostError};
use crate::setup::Artefacts;
use crate::tool::announce;
use crate::{Error, product, setup};
use load::Running;
use plan::{Cell, HELD_FOR_GOOD, Load, Machine, Pages, Strategy};
use row::{Row, TABLE};
use start::Start;

/// Programs beside `vmm` that a host needs: a neighbour that holds pages, one that fragments memory, a rival.
const PROGRAMS: [&str; 3] = ["hold", "fragment", "populate_and_map"];
/// A start that its load missed is repeated, so many times in a row that each counts once.
const ATTEMPTS: u32 = 3;

/// The JSON file.
#[derive(Serialize)]
struct Campaign {
    schema: &'static str,
    seconds: u64,
    rows: Vec<Row>,
    /// What is not as promised.
    complaints: Vec<String>,
}

/// Runs the campaign, or the rows of it that were asked for.
pub(super) fn run(options: &BenchOptions) -> Result<ExitCode, Error> {
    let started = Instant::now();
    let asked = |cell: &Cell| {
        options.only.is_empty() || options.only.iter().any(|only| cell.name().contains(only.as_str()))
    };
    let plan = Machine::ALL.map(|machine| {
        let cells: Vec<Cell> = machine.cells(options.starts).into_iter().filter(asked).collect();
        (machine, cells)
    });
    let mut artefacts = setup::ensure()?;
    for (machine, _) in plan.iter().filter(|(_, cells)| !cells.is_empty()) {
        artefacts.ensure_kernel(machine.spec().kernel)?;
    }
    let tools = Tools { vmm: product::build()?, examples: product::build_examples(&PROGRAMS)?, artefacts };
    let mut rows = Vec::new();
    println!("{}", TABLE.head());
    for (machine, cells) in &plan {
        campaign(&tools, *machine, cells, &mut rows)?;
    }
    let mut complaints = verdict::complaints(&rows);
    if rows.is_empty() {
        complaints.push("no row has such a name".to_owned());
    }
    let seconds = started.elapsed().as_secs();
    let path = options.json.clone().unwrap_or_else(|| product::target().join("bench/pin.json"));
    let starts: u64 = rows.iter().map(|row| row.starts).sum();
    println!("\n{} rows, {starts} starts, {seconds} s: {}", rows.len(), path.display());
    for complaint in &complaints {
        println!("not as promised: {complaint}");
    }
    let success = complaints.is_empty();
    table::write_json(&path, &Campaign { schema: "vmm-bench-pin/1", seconds, rows, complaints })?;
    Ok(if success { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What hosts are made of and what runs in them.
struct Tools {
    artefacts: Artefacts,
    vmm: std::path::PathBuf,
    examples: std::path::PathBuf,
}

impl Tools {
    fn boot(&self, machine: Machine) -> Result<Host, Error> {
        let host = Host::boot(&machine.spec(), &self.artefacts, Some(&self.vmm))?;
        install(&host, &self.examples)?;
        Ok(host)
    }
}

fn install(host: &Host, examples: &std::path::Path) -> Result<(), Error> {
    for program in PROGRAMS {
        let path = examples.join(program);
        host.put(&format!("/lab/{program}"), &std::fs::read(&path).during("read", &path)?)?;
    }
    Ok(())
}

/// Runs `cells`, which belong to `machine`, and prints each row as it is done. A start that wedges its host costs that
/// row, and the host.
fn campaign(tools: &Tools, machine: Machine, cells: &[Cell], rows: &mut Vec<Row>) -> Result<(), Error> {
    let mut current: Option<(Load, Host, Running)> = None;
    for cell in cells {
        let same = current.take_if(|(load, _, _)| *load == cell.load);
        let (host, running) = match (same, current.take()) {
            (Some((_, host, running)), _) => (host, running),
            (None, Some((_, host, running))) => {
                running.end()?;
                let running = Running::begin(&host, cell.load)?;
                (host, running)
            }
            (None, None) => {
                let host = tools.boot(machine)?;
                let running = Running::begin(&host, cell.load)?;
                (host, running)
            }
        };
        let (row, sound) = run_cell(&host, cell);
        println!("{}", row.lines());
        rows.push(row);
        if sound {
            current = Some((cell.load, host, running));
        } else {
            announce("the host is replaced");
        }
    }
    if let Some((_, _, running)) = current {
        running.end()?;
    }
    Ok(())
}

/// All starts of a cell; and whether the host is still good for more.
fn run_cell(host: &Host, cell: &Cell) -> (Row, bool) {
    let mut starts = Vec::new();
    let mut without_load = 0;
    let result = (|| {
        load::set_pages(host, cell.pages)?;
        for _ in 0..cell.starts {
            let (start, missed) = loaded_start(host, cell)?;
            without_load += missed;
            starts.push(start);
        }
        Ok::<(), HostError>(())
    })();
    if let Err(e) = &result {
        starts.push(Start::lost(e));
    }
    (Row::new(cell, host.release(), &starts, without_load), result.is_ok())
}

/// A start under its load. One that the load missed is repeated, unless it failed all the same.
fn loaded_start(host: &Host, cell: &Cell) -> Result<(Start, u64), HostError> {
    let mut missed = 0;
    loop {
        let start = start::start(host, cell)?;
        if start.load > 0 || start.failure.is_some() || missed + 1 == u64::from(ATTEMPTS) {
            return Ok((start, missed));
        }
        missed += 1;
    }
}

/// A campaign of seconds: others fail under pages that are held, we do not. Gives what is not as promised.
pub(crate) fn smoke(host: &Host) -> Result<Vec<String>, Error> {
    install(host, &product::build_examples(&PROGRAMS)?)?;
    let cell = |strategy| Cell {
        machine: Machine::Lab,
        load: HELD_FOR_GOOD,
        pages: Pages::Small,
        strategy,
        mib: 64,
        starts: 2,
    };
    let strategies = [Strategy::Others, Strategy::Prevent, Strategy::Evict, Strategy::Replace];
    let rows: Vec<Row> = strategies.map(|strategy| run_cell(host, &cell(strategy)).0).into();
    let mut complaints = verdict::complaints(&rows);
    if !complaints.is_empty() {
        complaints.extend(rows.iter().map(Row::lines));
    }
    Ok(complaints)
}
