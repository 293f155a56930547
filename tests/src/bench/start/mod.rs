//! `cargo lab bench start`: a guest of a few instructions, from the exec of its monitor to the first thing it does and to the
//! end of the process, on this machine's own KVM. Such a guest runs wherever `/dev/kvm` exists, on hardware or not.
//!
//! All contenders run the same guest in turns, since a machine is never twice the same; what counts is what a time is of the
//! bare KVM calls' in the same run, of those that put as much into guest memory. Then each of them has an idle guest, whose monitor
//! is looked at.
//!
//! It fails unless vmm keeps what it promises; see `verdict`.

mod contender;
mod guest;
mod row;
mod sample;
mod standing;
mod verdict;

use std::process::{Command, ExitCode};
use std::time::Instant;

use serde::Serialize;

use super::plot::{Bar, Plot, Plotted};
use super::record::conclude;
use crate::Error;
use crate::cli::BenchOptions;
use crate::product;
use crate::setup;
use crate::tool::{self, announce};
use contender::Contender;
use guest::Guest;
use row::{Row, TABLE};
use sample::Sample;

/// A start takes milliseconds, so there are so many for each that was asked for.
const QUICK: u32 = 5;
/// Guest memory.
const MEMORY_MIB: u32 = 128;

/// In the JSON file.
#[derive(Serialize)]
struct Record {
    kernel: String,
    cpus: usize,
    /// Whether the contenders had the CPUs before everything else on the machine.
    real_time: bool,
    memory_mib: u32,
    rows: Vec<Row>,
}

impl Plotted for Record {
    fn plot(&self) -> Plot {
        let bars = |row: &Row| {
            let bar = |what: &str, measured| {
                Bar::new(format!("{}, {what}", row.name), row.binary_bytes.is_some(), measured, 1.0)
            };
            [bar("first instruction", row.first_instruction), bar("exit", row.exit)]
        };
        Plot { axis: "from the exec on, ms", bars: self.rows.iter().flat_map(bars).flatten().collect() }
    }
}

/// Measures all contenders, or those that were asked for; the bare calls always, which the others are compared with.
pub(super) fn run(options: &BenchOptions) -> Result<ExitCode, Error> {
    let all = Contender::all(&options.vmm, setup::qemu()?)?;
    let started = Instant::now();
    let directory = product::target().join("bench");
    let (brief, idle) = (Guest::brief(&directory)?, Guest::idle(&directory)?);
    let asked = |contender: &Contender| {
        let name = contender.name();
        name == contender::BARE
            || options.only.is_empty()
            || options.only.iter().any(|only| name.contains(only.as_str()))
    };
    let contenders: Vec<Contender> = all.into_iter().filter(asked).collect();
    let real_time = come_first();
    let mut starts: Vec<Result<Vec<Sample>, String>> = contenders.iter().map(|_| Ok(Vec::new())).collect();
    for _ in 0..options.starts * QUICK {
        for (contender, starts) in contenders.iter().zip(&mut starts) {
            if let Ok(samples) = starts {
                match sample::take(contender.command(&brief)) {
                    Ok(sample) => samples.push(sample),
                    Err(why) => *starts = Err(why),
                }
            }
        }
    }
    let mut rows: Vec<Row> = Vec::new();
    println!("{}", TABLE.head());
    for (contender, starts) in contenders.iter().zip(starts) {
        let standing = standing::look(contender.command(&idle), contender);
        let binary = contender.vmm().and_then(|path| Some(std::fs::metadata(path).ok()?.len()));
        let bare = rows.iter().find(|row| Some(row.name.as_str()) == contender.beside());
        let row = Row::new(contender.name(), binary, starts, standing, bare);
        println!("{}", row.lines());
        rows.push(row);
    }
    let complaints = verdict::complaints(&rows);
    let measured = Record {
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        cpus: std::thread::available_parallelism().map_or(1, Into::into),
        real_time,
        memory_mib: MEMORY_MIB,
        rows,
    };
    let count = format!("{} starts each", options.starts * QUICK);
    Ok(conclude("start", options, started, &count, &measured, &complaints)?)
}

/// Puts this process, and so all that it starts, before the machine's other work, which would be measured otherwise.
fn come_first() -> bool {
    let this = std::process::id().to_string();
    let raised = tool::capture(Command::new("chrt").args(["--rr", "--pid", "1", &this]));
    if raised.is_err() {
        announce("others may interfere: chrt cannot give the contenders the CPUs first, which takes root");
    }
    raised.is_ok()
}
