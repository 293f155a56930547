//! What the cases on pinning share: starts that can be interfered with at a known point, what they report, and what none
//! of them may leave behind.

use serde_json::Value;

use crate::host::{HostSpec, NVME};
use crate::suite::{Ctx, Interactive, Output, TestResult, ensure};

/// Where starts write their reports.
const REPORT: &str = "/tmp/pin.json";
/// Brings memory up. The deadline is for a host of the usual speed: one that is emulated, on a machine that does other
/// work, may be much slower.
pub(super) const CHECK: &str = "vmm check --pin --pin-deadline 2m";
/// Pages of 4 KiB in a MiB.
pub(super) const PAGES: u64 = 256;
/// Shell functions: `pins` is how many pages are pinned, `helpers` which pin helpers run (it fails if there are none).
const SHELL: &str = "\
    pins() { echo 1 > /proc/sys/vm/stat_refresh; \
             awk '/^nr_foll_pin_acquired/ {a = $2} /^nr_foll_pin_released/ {r = $2} END {print a - r}' /proc/vmstat; }; \
    helpers() { pidof vmm-pin-helper; }";

/// A host whose memory above 4 GiB is mostly CMA: what is populated lies there.
pub(super) fn host() -> HostSpec {
    HostSpec::default().mostly_cma()
}

/// The command that brings memory up for the NVMe, and reports.
pub(super) fn check(mib: u64) -> String {
    format!("{CHECK} --memory {mib}M --vfio {NVME} --report {REPORT}")
}

/// What a start reported.
pub(super) struct Report(Value);

impl Report {
    /// Of the last start.
    pub(super) fn take(ctx: &Ctx) -> TestResult<Report> {
        let report = serde_json::from_slice(&ctx.get(REPORT)?)?;
        ctx.run(&format!("rm {REPORT}")).expect_success()?;
        Ok(Report(report))
    }

    /// What is there, such as `/pinned/now/cma`; null if nothing is.
    pub(super) fn at(&self, path: &str) -> &Value {
        self.0.pointer(path).unwrap_or(&Value::Null)
    }

    /// The number there, 0 if there is none.
    pub(super) fn number(&self, path: &str) -> u64 {
        self.at(path).as_u64().unwrap_or(0)
    }

    /// It says this.
    pub(super) fn says(&self, path: &str, expected: impl Into<Value>) -> TestResult<&Report> {
        let expected = expected.into();
        ensure!(*self.at(path) == expected, "{path} of the report is {}, not {expected}", self.at(path));
        Ok(self)
    }

    /// What is there holds these words.
    pub(super) fn mentions(&self, path: &str, words: &str) -> TestResult<&Report> {
        ensure!(
            self.at(path).to_string().contains(words),
            "{path} of the report is {}, without {words}",
            self.at(path)
        );
        Ok(self)
    }

    /// All pages of so many MiB were counted outside CMA.
    pub(super) fn pinned_outside(&self, mib: u64) -> TestResult<&Report> {
        self.says("/outcome", "pinned")?
            .says("/pinned/now/exact", true)?
            .says("/pinned/now/normal", mib * PAGES)
    }
}

/// The turn at pinning, which every start waits for.
pub(super) struct Turn<'a>(Interactive<'a>);

impl<'a> Turn<'a> {
    pub(super) fn take(ctx: &'a Ctx<'a>) -> TestResult<Turn<'a>> {
        let meddle = ctx.program("meddle")?;
        let mut holder = ctx.run(&format!("{meddle} lock /run/vmm/pin.lock")).start()?;
        holder.wait_for("locked")?;
        Ok(Turn(holder))
    }

    pub(super) fn pass_on(self) -> TestResult {
        self.0.end_of_input();
        self.0.finish().map(drop)
    }
}

/// A start that is under way. What it says on either stream is standard output here.
pub(super) struct Start<'a> {
    shell: Interactive<'a>,
    /// Of `vmm` itself.
    pub(super) pid: String,
}

impl<'a> Start<'a> {
    /// Starts `command`. `meanwhile` is run by the same shell, with `$vmm` for its process and `$before` for how many pages
    /// were pinned then; what it waits for ends with the process.
    pub(super) fn new(ctx: &'a Ctx<'a>, command: &str, meanwhile: &str) -> TestResult<Start<'a>> {
        // The shell stays when `vmm` is gone: whatever a session leaves behind is killed with it.
        let script = format!(
            "{SHELL}; before=$(pins); {command} 2>&1 & vmm=$!; echo \"pid $vmm\"; {meanwhile}
             wait $vmm; echo \"status $?\"; read -r end"
        );
        let mut shell = ctx.run(&script).start()?;
        let pid = shell.word_after("pid ")?;
        Ok(Start { shell, pid })
    }

    /// Waits until it says that it waits for its turn.
    pub(super) fn waits(&mut self) -> TestResult {
        self.wait_for("waiting for it to pin its memory")
    }

    pub(super) fn wait_for(&mut self, text: &str) -> TestResult {
        self.shell.wait_for(text).map(drop)
    }

    pub(super) fn word_after(&mut self, text: &str) -> TestResult<String> {
        self.shell.word_after(text)
    }

    /// Waits for its end; what it left running still runs.
    pub(super) fn status(&mut self) -> TestResult<String> {
        self.shell.word_after("status ")
    }

    /// All that was said, after `status`.
    pub(super) fn output(self) -> TestResult<Output> {
        self.shell.send("\n");
        self.shell.finish()
    }

    /// Waits for its end, which is to be success; gives all that was said.
    pub(super) fn success(mut self) -> TestResult<Output> {
        let status = self.status()?;
        let output = self.output()?;
        ensure!(status == "0", "it ended with status {status}");
        Ok(output)
    }
}

/// Shell: waits until `condition` holds or the start is over, then does `blow`.
pub(super) fn when(condition: &str, blow: &str) -> String {
    format!("while [ -e /proc/$vmm/exe ] && ! {{ {condition}; }}; do :; done; {blow}")
}

/// Shell: pages are being pinned; `$h` are the helpers that do it.
pub(super) const PINNING: &str = "[ $(($(pins) - before)) -gt 1000 ] && h=$(helpers)";

/// Shell: a helper is there, and is `$h`.
pub(super) const HELPER: &str = "h=$(helpers)";

/// The path of the memfd with the guest memory of process `pid`.
pub(super) fn guest_memory(ctx: &Ctx, pid: &str) -> TestResult<String> {
    let script = format!(
        "for f in /proc/{pid}/fd/*; do case $(readlink $f) in /memfd:guest-ram*) echo $f;; esac; done"
    );
    let found = ctx.run(&script).expect_success()?.stdout.trim().to_owned();
    ensure!(found.lines().count() == 1, "process {pid} has not one guest memory: {found:?}");
    Ok(found)
}

/// What a host has when no machine runs on it.
pub(super) struct Idle {
    pins: u64,
    shmem_kib: u64,
}

impl Idle {
    pub(super) fn now(ctx: &Ctx) -> TestResult<Idle> {
        let figures = ctx
            .run(&format!("{SHELL}; pins; awk '/^Shmem:/ {{print $2}}' /proc/meminfo"))
            .expect_success()?;
        let mut figures = figures.stdout.lines().map(|line| line.trim().parse());
        match (figures.next(), figures.next()) {
            (Some(pins), Some(shmem_kib)) => Ok(Idle { pins: pins?, shmem_kib: shmem_kib? }),
            _ => Err(crate::suite::Failure::new("the host has no figures")),
        }
    }

    /// No process of a machine is left, or will be in a moment.
    pub(super) fn no_process(ctx: &Ctx) -> TestResult {
        let left = ctx.run(
            "for i in $(seq 300); do r=$(pidof vmm vmm-pin-helper) || exit 0; usleep 100000; done; echo $r; exit 1",
        );
        let left = left.output()?;
        ensure!(left.status == 0, "processes stay: {}", left.stdout.trim());
        Ok(())
    }

    /// No process, no pin, no memory of a machine is left, or will be in a moment: what was killed takes its time to end.
    pub(super) fn is_back(&self, ctx: &Ctx) -> TestResult {
        let Idle { pins, shmem_kib } = self;
        let script = format!(
            "{SHELL}; for i in $(seq 300); do
                 p=$(pins); s=$(awk '/^Shmem:/ {{print $2}}' /proc/meminfo); r=$(pidof vmm vmm-pin-helper)
                 [ $p = {pins} ] && [ $s -lt $(({shmem_kib} + 8192)) ] && [ -z \"$r\" ] && exit 0
                 usleep 100000
             done
             echo \"$((p - {pins})) pages stay pinned, $((s - {shmem_kib})) KiB stay in memory, processes: $r\"; exit 1"
        );
        let left = ctx.run(&script).output()?;
        ensure!(left.status == 0, "{}", left.stdout.trim());
        Ok(())
    }
}
