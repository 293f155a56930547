//! Starts on one host take turns at pinning, and say that they wait.

use super::scene::{CHECK, Idle, PINNING, Start, Turn, check, host, when};
use crate::host::{NIC, NVME};
use crate::suite::{Case, Ctx, Failure, TestResult, case, ensure};

pub(super) fn all() -> Vec<Case> {
    vec![
        case("pinning/a second start waits for the first, and says so", host(), second_waits),
        case("pinning/the turn of a start that is killed is passed on", host(), turn_of_the_dead),
        case("pinning/four starts at once", host(), four),
    ]
}

/// A start that is stopped while it has the turn: its helper is there, and it cannot let that go.
fn stopped<'a>(ctx: &'a Ctx<'a>) -> TestResult<Start<'a>> {
    for _ in 0..5 {
        let stop = when(PINNING, "kill -STOP $vmm; helpers > /dev/null; echo \"stopped $?\"");
        let mut start = Start::new(ctx, &check(128), &stop)?;
        if start.word_after("stopped ")? == "0" {
            return Ok(start);
        }
        ctx.run(&format!("kill -CONT {}", start.pid)).output()?;
        start.success()?;
    }
    Err(Failure::new("the starts were over before they were stopped"))
}

fn second<'a>(ctx: &'a Ctx<'a>) -> TestResult<Start<'a>> {
    let mut second = Start::new(ctx, &format!("{CHECK} --memory 64M --vfio {NIC}"), "")?;
    second.waits()?;
    Ok(second)
}

/// One that knows nothing of the turn pins all its memory, more than theirs, and they still wait.
fn keep_waiting(ctx: &Ctx, starts: &[Start]) -> TestResult {
    let aside = format!("unshare -m sh -c 'mount -t tmpfs none /run && exec {CHECK} --memory 192M'");
    let aside = ctx.run(&aside).expect_success()?;
    ensure!(aside.stderr.starts_with("faulted in 192 MiB: "), "it says {}", aside.stderr);
    for Start { pid, .. } in starts {
        ctx.run(&format!("test -e /proc/{pid}/exe")).expect_success()?;
    }
    Ok(())
}

fn second_waits(ctx: &Ctx) -> TestResult {
    let idle = Idle::now(ctx)?;
    let first = stopped(ctx)?;
    let second = [second(ctx)?];
    keep_waiting(ctx, &second)?;
    let [second] = second;
    ctx.run(&format!("kill -CONT {}", first.pid)).expect_success()?;
    let first = first.success()?;
    let second = second.success()?;
    first.stdout_contains("pinned 128 MiB for ")?.stdout_lacks("waiting for it to pin")?;
    second.stdout_contains("pinned 64 MiB for ")?;
    idle.is_back(ctx)
}

fn turn_of_the_dead(ctx: &Ctx) -> TestResult {
    let idle = Idle::now(ctx)?;
    let mut first = stopped(ctx)?;
    let second = second(ctx)?;
    ctx.run(&format!("kill -9 {}", first.pid)).expect_success()?;
    let status = first.status()?;
    ensure!(status == "137", "the first ended with status {status}");
    second.success()?.stdout_contains("pinned 64 MiB for ")?;
    first.output()?;
    idle.is_back(ctx)
}

fn four(ctx: &Ctx) -> TestResult {
    let idle = Idle::now(ctx)?;
    let turn = Turn::take(ctx)?;
    let devices = [format!("--vfio {NVME}"), format!("--vfio {NIC}"), String::new(), String::new()];
    let mut starts = Vec::new();
    for devices in &devices {
        let mut start = Start::new(ctx, &format!("{CHECK} --memory 64M {devices}"), "")?;
        start.waits()?;
        starts.push(start);
    }
    keep_waiting(ctx, &starts)?;
    ctx.run("pidof vmm-pin-helper").expect_status(1)?;
    turn.pass_on()?;
    for start in starts {
        start.success()?.stdout_contains(": 16384 pages, 0 in CMA, 0 in ZONE_MOVABLE, ")?;
    }
    idle.is_back(ctx)
}
