//! Where io_uring is forbidden, the next best holds the trial pins, and the report says which and why; the last resort is the
//! DMA map itself.

use serde_json::Value;

use super::scene::{CHECK, Idle, PAGES, Report, Start, check, host, when};
use crate::host::{NIC, NVME};
use crate::suite::{Case, Ctx, Failure, TestResult, case, ensure};

const MIB: u64 = 64;
const DISABLED: &str = "io_uring is disabled (sysctl kernel.io_uring_disabled = 2)";
const NO_UDMABUF: &str = "/dev/udmabuf cannot be opened: No such file or directory";
const BARE: &str = "no trial pins, the DMA map itself pins guest memory";

pub(super) fn all() -> Vec<Case> {
    vec![
        case("pinning/without io_uring, udmabuf holds the trial pins", host(), udmabuf),
        case("pinning/without either, the DMA map pins", host(), dma_map),
        case("pinning/io_uring forbidden by seccomp", host(), seccomp),
        case("pinning/io_uring punished with death by seccomp", host(), seccomp_kill),
        case("pinning/a helper that does not get started is given up", host(), no_start),
        case("pinning/a trial pin beyond the user's memlock is done without", host(), memlock_taken),
    ]
}

/// Memory that is fresh, and memory that is in CMA, with these pinners for these reasons.
fn pinned_by(ctx: &Ctx, wrap: &str, pinners: &[&str], reasons: &[&str]) -> TestResult {
    for prefault in ["pin", "populate"] {
        let start = ctx.run(&format!("{wrap} {} --prefault {prefault}", check(MIB))).expect_success()?;
        let report = Report::take(ctx)?;
        report.pinned_outside(MIB)?.says("/pinned/pinners", pinners)?;
        let bare = if pinners.is_empty() { MIB << 20 } else { 0 };
        report.says("/pinned/pinned_by_dma_map_bytes", bare)?;
        if pinners.is_empty() {
            start.stderr_contains(BARE)?;
        }
        for reason in reasons {
            report.mentions("/pinned/passed_over", reason)?;
        }
        let found = report.number("/pinned/found/cma");
        ensure!((prefault == "populate") == (found > MIB), "{prefault} found {found} pages in CMA");
    }
    Ok(())
}

fn udmabuf(ctx: &Ctx) -> TestResult {
    let idle = Idle::now(ctx)?;
    ctx.run("echo 2 > /proc/sys/kernel/io_uring_disabled").expect_success()?;
    pinned_by(ctx, "", &["udmabuf in a helper process"], &[DISABLED])?;
    ctx.run("echo 0 > /proc/sys/kernel/io_uring_disabled").expect_success()?;
    idle.is_back(ctx)
}

fn dma_map(ctx: &Ctx) -> TestResult {
    let idle = Idle::now(ctx)?;
    ctx.run("echo 2 > /proc/sys/kernel/io_uring_disabled; mv /dev/udmabuf /dev/away").expect_success()?;
    pinned_by(ctx, "", &[], &[DISABLED, NO_UDMABUF])?;
    // Without a device there is no DMA map either.
    let none = ctx.run(&format!("{CHECK} --memory {MIB}M")).expect_status(4)?;
    for words in [
        "error: guest memory cannot be faulted in outside CMA: ",
        DISABLED,
        NO_UDMABUF,
        "help: allow io_uring, ",
    ] {
        none.stderr_contains(words)?;
    }
    ctx.run("echo 0 > /proc/sys/kernel/io_uring_disabled; mv /dev/away /dev/udmabuf").expect_success()?;
    idle.is_back(ctx)
}

fn seccomp(ctx: &Ctx) -> TestResult {
    let meddle = ctx.program("meddle")?;
    let idle = Idle::now(ctx)?;
    let forbidden = "io_uring is forbidden by a seccomp filter or a security module";
    pinned_by(ctx, &format!("{meddle} deny io_uring"), &["udmabuf in a helper process"], &[forbidden])?;
    idle.is_back(ctx)
}

/// Whoever uses io_uring is killed, which is to be helpers alone, for the report as well.
fn seccomp_kill(ctx: &Ctx) -> TestResult {
    let meddle = ctx.program("meddle")?;
    let idle = Idle::now(ctx)?;
    let wrap = format!("{meddle} kill io_uring");
    let killed = "was killed by a seccomp filter";
    let start = ctx.run(&format!("{wrap} {}", check(MIB))).expect_success()?;
    start.stderr_contains(" 0 in CMA, 0 in ZONE_MOVABLE, ")?;
    Report::take(ctx)?.mentions("/host/io_uring", killed)?.says("/host/udmabuf", Value::Null)?;
    pinned_by(ctx, &wrap, &["udmabuf in a helper process"], &[killed])?;
    ctx.run("mv /dev/udmabuf /dev/away").expect_success()?;
    let not_here = "io_uring is not risked in this process: pid ";
    pinned_by(ctx, &wrap, &[], &[killed, NO_UDMABUF, not_here])?;
    let none = ctx.run(&format!("{wrap} {CHECK} --memory {MIB}M")).expect_status(4)?;
    none.stderr_contains("error: guest memory cannot be faulted in outside CMA: ")?
        .stderr_contains(killed)?;
    ctx.run("mv /dev/away /dev/udmabuf").expect_success()?;
    idle.is_back(ctx)
}

/// The call that sets io_uring up does not come back, here or there.
fn no_start(ctx: &Ctx) -> TestResult {
    let meddle = ctx.program("meddle")?;
    let idle = Idle::now(ctx)?;
    let wrap = format!("{meddle} hang io_uring");
    let given_up = "the pin helper process: pid ";
    pinned_by(ctx, &wrap, &["udmabuf in a helper process"], &[given_up, " did not answer for "])?;
    ctx.run("mv /dev/udmabuf /dev/away").expect_success()?;
    let not_here = "io_uring is not risked in this process: pid ";
    pinned_by(ctx, &wrap, &[], &[given_up, NO_UDMABUF, not_here])?;
    ctx.run("mv /dev/away /dev/udmabuf").expect_success()?;
    idle.is_back(ctx)
}

/// Two starts of one user, whose limit is enough for the memory of either. What the first one's helper holds counts for the
/// user, not for a process.
fn memlock_taken(ctx: &Ctx) -> TestResult {
    let idle = Idle::now(ctx)?;
    ctx.run(
        "echo somebody:x:1000:1000::/:/bin/sh >> /etc/passwd
         for n in /dev/vfio/[0-9]*; do chown 1000 $n; done",
    )
    .expect_success()?;
    let as_somebody =
        |device: &str| format!("su -s /bin/sh somebody -c 'exec {CHECK} --memory {MIB}M --vfio {device}'");
    let limit = MIB << 10;
    let mut done = Err(Failure::new("the helper of the first was gone before the second came"));
    for _ in 0..5 {
        // All pinned, and held, and its monitor cannot let go of it.
        let held = format!("[ $(($(pins) - before)) -ge {} ] && helpers > /dev/null", MIB * PAGES);
        let started = "[ $(($(pins) - before)) -gt 1000 ] && helpers > /dev/null";
        let stop = when(started, &format!("kill -STOP $vmm; {}; echo stopped", when(&held, ":")));
        let mut first = Start::new(ctx, &format!("ulimit -l {limit}; {}", as_somebody(NVME)), &stop)?;
        first.wait_for("stopped")?;
        let second = ctx.run(&format!("ulimit -l {limit}; {} 2>&1", as_somebody(NIC))).expect_success()?;
        ctx.run(&format!("kill -CONT {}", first.pid)).expect_success()?;
        first.success()?;
        if second.stdout.contains(BARE) {
            second.stdout_contains("reason=\"the memlock limit (64 MiB) is exceeded\"")?;
            done = Ok(());
            break;
        }
    }
    ctx.run("for n in /dev/vfio/[0-9]*; do chown 0 $n; done").expect_success()?;
    done?;
    idle.is_back(ctx)
}
