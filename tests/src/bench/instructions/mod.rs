//! `cargo lab bench instructions`: a machine from the exec of its monitor to the end of the process, in a lab host whose clock counts
//! instructions: of the monitor, of the host's kernel and of the guest. Whatever else the measuring machine does, it repeats. QEMU's machines
//! run the same guests in the same host, in turns.
//!
//! It fails unless vmm keeps what it promises; see `verdict`.

mod guest;
mod row;
mod verdict;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::plot::{Bar, Plot, Plotted};
use super::record::conclude;
use crate::cli::BenchOptions;
use crate::files::During;
use crate::host::{Deadline, Host, HostError, HostSpec};
use crate::product::{self, Product};
use crate::suite::GuestInitrd;
use crate::{Error, setup};
use guest::{Guest, Monitor};
use row::{Row, TABLE};

/// One start is an outlier only if the host had something else to do.
const ROUNDS: u32 = 3;
/// Where the guest's file system is, and the program that measures.
const INITRD: &str = "/lab/guest.cpio";
const STOPWATCH: &str = "/lab/stopwatch";
/// For one start, in the measuring machine's time.
const DEADLINE: Duration = Duration::from_secs(600);

/// In the JSON file.
#[derive(Serialize)]
struct Record {
    kernel: String,
    rows: Vec<Row>,
}

impl Plotted for Record {
    fn plot(&self) -> Plot {
        let name = |row: &Row| format!("{}: {}", row.name, row.monitor.name());
        let bar = |row: &Row| Bar::new(name(row), row.monitor == Monitor::Vmm, row.exit, 1.0);
        Plot {
            axis: "exec to exit, s of 10^9 instructions",
            bars: self.rows.iter().filter_map(bar).collect(),
        }
    }
}

/// Measures all guests, or those that were asked for.
pub(super) fn run(options: &BenchOptions) -> Result<ExitCode, Error> {
    let started = Instant::now();
    let artefacts = setup::ensure()?;
    let vmm = match options.vmm.first() {
        Some(binary) => binary.clone(),
        None => product::release()?,
    };
    let (directory, qemu) = artefacts.qemu.in_a_host()?;
    let spec = HostSpec { add: vec![directory], ..HostSpec::default().counting_instructions() };
    let host = Host::boot(&spec, &artefacts, Some(&vmm))?;
    let stopwatch = Product::build()?.program("stopwatch");
    host.put(STOPWATCH, &std::fs::read(&stopwatch).during("read", &stopwatch)?)?;
    let mut rows: Vec<Row> = Vec::new();
    println!("{}", TABLE.head());
    let asked = |guest: &Guest| {
        options.only.is_empty() || options.only.iter().any(|only| guest.name().contains(only.as_str()))
    };
    for guest in Guest::ALL.into_iter().filter(asked) {
        let initrd = GuestInitrd::with_script(&artefacts, guest.script())?;
        host.put(INITRD, &initrd.build()?)?;
        let mut measured: Vec<_> =
            guest.monitors().iter().map(|monitor| (*monitor, Ok(Vec::new()))).collect();
        for _ in 0..options.starts.clamp(1, ROUNDS) {
            for (monitor, measured) in &mut measured {
                let Ok(seconds) = measured else { continue };
                match time(&host, &guest.command(*monitor, host.release(), &qemu))? {
                    Ok(more) => seconds.push(more),
                    Err(why) => *measured = Err(why),
                }
            }
        }
        for (monitor, measured) in measured {
            let row = Row::new(guest.name(), monitor, measured);
            println!("{}", row.lines());
            rows.push(row);
        }
    }
    let complaints = verdict::complaints(&rows);
    let count = format!("{} rows", rows.len());
    let measured = Record { kernel: host.release().to_owned(), rows };
    Ok(conclude("instructions", options, started, &count, &measured, &complaints)?)
}

/// Seconds of the host from exec to exit, or why there are none.
fn time(host: &Host, command: &[String]) -> Result<Result<f64, String>, HostError> {
    let command: Vec<&str> = [STOPWATCH].into_iter().chain(command.iter().map(String::as_str)).collect();
    let ran = host.run(&command, &[], Deadline::after(DEADLINE))?;
    let output = String::from_utf8_lossy(&ran.stdout);
    Ok(row::seconds(&output)
        .ok_or_else(|| format!("it failed: {output} {}", String::from_utf8_lossy(&ran.stderr))))
}
