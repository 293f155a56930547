//! A campaign of faults: whatever fails around a machine, at whatever point, the start goes on or ends with a message that says
//! why and what to do, nothing of it stays, and the device works for the next one. docs/faults.md has what came of it.
//!
//! Faults that have cases of their own elsewhere are listed there, and not repeated here.

mod aer;
mod allocations;
mod clock;
mod deaths;
mod fault;
mod limits;
mod outputs;
mod pressure;
mod storage;
mod tally;
mod verdict;

use crate::host::{HostSpec, NVME};
use crate::suite::{Case, Ctx, Failure, TestResult, case, ensure, tiny_kernel};
use fault::Fault;
use tally::Tally;

pub(super) fn all() -> Vec<Case> {
    let host = HostSpec::default;
    let mut all = aer::all();
    all.extend([
        case("faults/a campaign of them leaves nothing behind", host(), |ctx| campaign(ctx, Scale::Thinned)),
        case("faults/a clock that jumps by a day while a guest runs", host(), clock::jumps),
        case("faults/full file systems under disks, consoles and logs", host(), storage::full),
        case("long/the whole campaign of faults", host(), |ctx| campaign(ctx, Scale::Whole)),
    ]);
    all
}

/// At how many points each fault is tried.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scale {
    /// A few, for every day.
    Thinned,
    /// All.
    Whole,
}

impl Scale {
    /// All numbers of a range, or these of them.
    fn or(self, range: std::ops::RangeInclusive<u64>, few: &[u64]) -> Vec<u64> {
        if self == Scale::Whole { range.collect() } else { few.to_vec() }
    }

    /// All numbers of a range, or every so manieth of them and the last.
    fn points(self, range: std::ops::RangeInclusive<u64>, thinned: usize) -> Vec<u64> {
        let step = if self == Scale::Whole { 1 } else { thinned };
        let mut points: Vec<u64> = range.clone().step_by(step).collect();
        if points.last() != Some(range.end()) {
            points.push(*range.end());
        }
        points
    }
}

/// Where the campaign has its files in the host.
const PLACE: &str = "/tmp/faults";
/// What the campaign's guests run, by name: code in 32-bit protected mode.
const KERNELS: [(&str, &[u8]); 4] = [
    // mov dx, 0x600; mov al, SLP_EN | 5 << 2; out dx, al; hlt: powers off.
    ("off", &[0x66, 0xba, 0x00, 0x06, 0xb0, 0x34, 0xee, 0xf4]),
    // hlt, for ever.
    ("halt", &[0xf4, 0xeb, 0xfd]),
    // mov dx, 0x3f8; then for ever: mov esi, 0x200000; mov ecx, 1024; rep outsb: talks without end.
    (
        "chat",
        &[
            0x66, 0xba, 0xf8, 0x03, 0xbe, 0x00, 0x00, 0x20, 0x00, 0xb9, 0x00, 0x04, 0x00, 0x00, 0xf3, 0x6e,
            0xeb, 0xf2,
        ],
    ),
    // mov dx, 0x602; mov al, 6; out dx, al; hlt: resets.
    ("reset", &[0x66, 0xba, 0x02, 0x06, 0xb0, 0x06, 0xee, 0xf4]),
];

/// A machine with this kernel and nothing else.
fn bare(kernel: &str) -> String {
    format!("run --initrd none --memory 16M --kernel {PLACE}/{kernel}")
}

/// One that has the NVMe.
fn with_drive(kernel: &str) -> String {
    format!("{} --vfio {NVME}", bare(kernel))
}

/// One with a device of each kind as well.
fn with_all(kernel: &str) -> String {
    format!(
        "{} --disk {PLACE}/disk --net faults0,create --rng --vsock socket={PLACE}/vsock --console pty={PLACE}/hvc \
         --watchdog reset --on-panic stop --pcie-ports 1 --api-socket {PLACE}/api --events {PLACE}/events",
        with_drive(kernel)
    )
}

fn campaign(ctx: &Ctx, scale: Scale) -> TestResult {
    ctx.run(&format!("mkdir -p {PLACE}; truncate -s 1M {PLACE}/disk")).expect_success()?;
    for (name, code) in KERNELS {
        ctx.put(&format!("{PLACE}/{name}"), &tiny_kernel(code))?;
    }
    let faults: Vec<Fault> = [
        deaths::all(scale),
        allocations::all(scale),
        limits::all(ctx, scale)?,
        outputs::all(scale),
        pressure::all(scale),
    ]
    .into_iter()
    .flatten()
    .collect();
    let mut tally = Tally::default();
    for fault in &faults {
        fault.inflict(ctx, &mut tally)?;
        print!("{}", tally.last());
        // The device is as good as before.
        let check =
            ctx.run(&format!("vmm check {}", with_drive("off").trim_start_matches("run "))).output()?;
        ensure!(check.status == 0, "after {}, the device is not ready", fault.name);
    }
    println!("{tally}");
    ctx.run(&format!("rm -r {PLACE}")).expect_success()?;
    tally.verdict().map_err(Failure::new)
}
