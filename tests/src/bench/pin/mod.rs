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

use super::plot::{Bar, Plot, Plotted};
use super::record::conclude;
use crate::cli::BenchOptions;
use crate::files::During;
use crate::host::{Host, HostError};
use crate::product::Product;
use crate::setup::Artefacts;
use crate::tool::announce;
use crate::{Error, setup};
use load::Running;
use plan::{Cell, HELD_FOR_GOOD, Machine, Pages, Strategy};
use row::{Row, TABLE};
use start::Start;

/// Programs beside `vmm` that a host needs: a neighbour that holds pages, one that fragments memory, a rival.
const PROGRAMS: [&str; 3] = ["hold", "fragment", "populate_and_map"];
/// A start that its load missed is repeated until there were so many.
const ATTEMPTS: u32 = 3;

/// In the JSON file.
#[derive(Serialize)]
struct Campaign {
    rows: Vec<Row>,
}

impl Plotted for Campaign {
    /// The whisker ends where 99 of 100 starts are done.
    fn plot(&self) -> Plot {
        let bar = |row: &Row| {
            let own = row.strategy != Strategy::Others.name();
            let (length, slow) = (row.p50_ms?, row.p99_ms?);
            Some(Bar { name: row.name.clone(), own, length, whiskers: [length, slow] })
        };
        Plot {
            axis: "a start, ms: median, and what 99 of 100 take",
            bars: self.rows.iter().filter_map(bar).collect(),
        }
    }
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
    let tools = Tools { product: Product::build()?, artefacts };
    let mut rows = Vec::new();
    println!("{}", TABLE.head());
    let ended = plan.iter().try_for_each(|(machine, cells)| campaign(&tools, *machine, cells, &mut rows));
    let mut complaints = verdict::complaints(&rows);
    complaints.extend(ended.as_ref().err().map(ToString::to_string));
    if rows.is_empty() {
        complaints.push("no row has such a name".to_owned());
    }
    let starts: u64 = rows.iter().map(|row| row.starts).sum();
    let count = format!("{} rows, {starts} starts", rows.len());
    let status = conclude("pin", options, started, &count, &Campaign { rows }, &complaints)?;
    ended?;
    Ok(status)
}

/// What hosts are made of and what runs in them.
struct Tools {
    artefacts: Artefacts,
    product: Product,
}

impl Tools {
    fn boot(&self, machine: Machine) -> Result<Host, Error> {
        let host = Host::boot(&machine.spec(), &self.artefacts, Some(&self.product.vmm()))?;
        for program in PROGRAMS {
            let path = self.product.program(program);
            host.put(&format!("/lab/{program}"), &std::fs::read(&path).during("read", &path)?)?;
        }
        Ok(host)
    }
}

/// Runs `cells`, which belong to `machine`, and prints each row as it is done. Trouble with a host, such as a start that
/// wedges it, costs that row and the host.
fn campaign(tools: &Tools, machine: Machine, cells: &[Cell], rows: &mut Vec<Row>) -> Result<(), Error> {
    let mut current: Option<(Host, Option<Running>)> = None;
    for (index, cell) in cells.iter().enumerate() {
        let (host, mut running) = match current.take() {
            Some(current) => current,
            None => (tools.boot(machine)?, None),
        };
        let mut row = run_cell(&host, cell, &mut running);
        let last_of_load = cells.get(index + 1).is_none_or(|next| next.load != cell.load);
        if last_of_load
            && let Some(running) = running.take()
            && let Err(e) = running.end()
        {
            row.trouble.get_or_insert(e.to_string());
        }
        println!("{}", row.lines());
        if row.trouble.is_none() {
            current = Some((host, running));
        } else {
            announce("the host is replaced");
        }
        rows.push(row);
    }
    Ok(())
}

/// All starts of a cell, under its load, which is set up first if nothing is `running`.
fn run_cell(host: &Host, cell: &Cell, running: &mut Option<Running>) -> Row {
    let mut starts = Vec::new();
    let mut without_load = 0;
    let result = (|| {
        if running.is_none() {
            *running = Some(Running::begin(host, cell.load)?);
        }
        load::set_pages(host, cell.pages)?;
        for _ in 0..cell.starts {
            let (start, missed) = loaded_start(host, cell)?;
            without_load += missed;
            starts.push(start);
        }
        Ok::<(), HostError>(())
    })();
    let mut row = Row::new(cell, host.release(), &starts, without_load);
    row.trouble = result.err().map(|e| e.to_string());
    row
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

/// A campaign of seconds: others fail under pages that are held, we do not. Gives what is not as promised. The programs
/// `hold` and `populate_and_map` are in the host.
pub(crate) fn smoke(host: &Host) -> Vec<String> {
    let cell = |strategy| Cell {
        machine: Machine::Lab,
        load: HELD_FOR_GOOD,
        pages: Pages::Small,
        strategy,
        mib: 64,
        starts: 2,
    };
    let strategies = [Strategy::Others, Strategy::Prevent, Strategy::Evict, Strategy::Replace];
    let rows: Vec<Row> = strategies.map(|strategy| run_cell(host, &cell(strategy), &mut None)).into();
    let mut complaints = verdict::complaints(&rows);
    if !complaints.is_empty() {
        complaints.extend(rows.iter().map(Row::lines));
    }
    complaints
}
