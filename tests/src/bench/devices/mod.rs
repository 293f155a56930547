//! `cargo lab bench devices`: disks and network cards of vmm's beside those of QEMU's, with the same guest program, image and kind of
//! tap, in one lab host. What a request takes of the emulated host's CPU time is what it costs, guest included. The host has two CPUs,
//! one for the vCPU and one for all else, as on hosts that they are put on with care; with one, or with threads that go where they are sent,
//! it is the host's scheduler that is compared (docs/performance.md). A clock that counts instructions would repeat better still, but QEMU with such a
//! clock stands still for good when a nested guest has many requests under way.
//!
//! It fails unless vmm keeps what it promises; see `verdict`.

mod contender;
mod load;
mod measure;
mod round;
mod row;
mod verdict;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::plot::{Bar, Plot, Plotted};
use super::record::conclude;
use crate::cli::BenchOptions;
use crate::files::During;
use crate::host::{Deadline, Event, Host, HostError, HostSpec, Session};
use crate::product::{self, Product};
use crate::setup::Artefacts;
use crate::suite::GuestInitrd;
use crate::wire::ExecRequest;
use crate::{Error, setup};
use contender::Contender;
use load::Device;
use measure::Failure;
use round::Pair;
use row::{Row, TABLE};

const REQUESTS: &str = "/lab/requests";
const MAKE_TAP: &str = "/lab/tap";
/// On ext4, which knows direct I/O.
const IMAGES: &str = "/tmp/images";

/// In the JSON file.
#[derive(Serialize)]
struct Record {
    kernel: String,
    rows: Vec<Row>,
    /// What went wrong with a guest.
    troubles: Vec<String>,
}

impl Plotted for Record {
    /// One axis for what takes 70 us and what takes 30 ms: QEMU's median is 1.
    fn plot(&self) -> Plot {
        let bars = |row: &Row| {
            let cpu = |figures: Option<row::Figures>| figures.map(|it| it.cpu_microseconds);
            let (own, peer) = (cpu(row.vmm), cpu(row.qemu));
            let unit = peer.map(|peer| peer.median)?;
            let name = |who: &str| format!("{}, {}: {who}", row.device.name(), row.load);
            Some([Bar::new(name("vmm"), true, own, unit), Bar::new(name("QEMU"), false, peer, unit)])
        };
        let bars = self.rows.iter().filter_map(bars).flatten().flatten().collect();
        Plot { axis: "CPU time, of QEMU's", bars }
    }
}

/// Measures all devices, or those that were asked for.
pub(super) fn run(options: &BenchOptions) -> Result<ExitCode, Error> {
    let started = Instant::now();
    let artefacts = setup::ensure()?;
    let vmm = match options.vmm.first() {
        Some(binary) => binary.clone(),
        None => product::release()?,
    };
    let lab = Lab::boot(&artefacts, &vmm)?;
    let (mut rows, mut troubles) = (Vec::new(), Vec::new());
    println!("{}", TABLE.head());
    let asked = |device: &Device| {
        options.only.is_empty() || options.only.iter().any(|only| device.name() == only.as_str())
    };
    for device in Device::ALL.into_iter().filter(asked) {
        for who in Contender::ALL {
            let initrd = GuestInitrd::with_script(&artefacts, &device.script(who))?;
            let initrd = initrd.file("bin/requests", &lab.requests)?;
            lab.host.put(&who.initrd(), &initrd.build()?)?;
        }
        let mut rounds: Vec<Vec<Vec<Pair>>> = Vec::new();
        for _ in 0..options.starts {
            let command = |who: Contender| who.command(device, lab.host.release(), &lab.qemu);
            match round::run(&lab.host, device, command) {
                Ok(pairs) => rounds.push(pairs),
                Err(Failure::Guest(why)) => troubles.push(format!("{}: {why}", device.name())),
                Err(Failure::Host(lost)) => return Err(lost.into()),
            }
        }
        for (index, load) in device.loads().iter().enumerate() {
            let pairs: Vec<Pair> =
                rounds.iter().filter_map(|round| round.get(index)).flatten().copied().collect();
            let row = Row::new(device, load, &pairs);
            println!("{}", row.line());
            rows.push(row);
        }
    }
    let complaints = verdict::complaints(&rows);
    troubles.iter().for_each(|trouble| println!("{trouble}"));
    let measured = Record { kernel: lab.host.release().to_owned(), rows, troubles };
    let count = format!("{} rounds", options.starts);
    Ok(conclude("devices", options, started, &count, &measured, &complaints)?)
}

/// The host, with all that guests are measured on.
struct Lab {
    // Dropped before the host.
    _server: Session,
    host: Host,
    /// How QEMU starts in the host.
    qemu: Vec<String>,
    /// The program that makes requests.
    requests: Vec<u8>,
}

impl Lab {
    fn boot(artefacts: &Artefacts, vmm: &std::path::Path) -> Result<Lab, Error> {
        let product = Product::build()?;
        let program = |name| {
            let path = product.program(name);
            std::fs::read(&path).during("read", &path)
        };
        let (requests, make_tap) = (program("requests")?, program("tap")?);
        let (directory, qemu) = artefacts.qemu.in_a_host()?;
        let spec = HostSpec { add: vec![directory], ..HostSpec::default() };
        let host = Host::boot(&spec, artefacts, Some(vmm))?;
        host.put(REQUESTS, &requests)?;
        host.put(MAKE_TAP, &make_tap)?;
        let mut make = format!(
            "mkdir -p {IMAGES} && truncate -s 384M {IMAGES}.fs && mke2fs -q -F {IMAGES}.fs && mount -t ext4 -o loop {IMAGES}.fs {IMAGES}"
        );
        for who in Contender::ALL {
            let (image, tap, address) = (who.image(), who.tap(), who.host());
            make.push_str(&format!(
                " && dd if=/dev/zero of={image} bs=1M count=128 2>/dev/null && {MAKE_TAP} {tap} && ip link set {tap} up && \
                 ip addr add {address}/24 dev {tap}"
            ));
        }
        make.push_str(" && sync");
        host.errand(&["sh", "-c", &make], &[])?;
        let argv = ["taskset", measure::OTHERS, REQUESTS, "serve", &load::PORT.to_string()]
            .map(str::to_owned)
            .into();
        let server = host.exec(ExecRequest { argv, env: Vec::new(), terminal: None })?;
        match server.next(Deadline::after(Duration::from_secs(60)))? {
            Event::Stdout(_) => Ok(Lab { _server: server, host, qemu, requests }),
            Event::Stderr(text) => Err(unprepared(&text).into()),
            Event::Exit(status) => Err(unprepared(format!("status {status}").as_bytes()).into()),
        }
    }
}

fn unprepared(why: &[u8]) -> HostError {
    let stderr = String::from_utf8_lossy(why).into_owned();
    HostError::Errand { errand: format!("{REQUESTS} serve"), status: 1, stderr }
}
