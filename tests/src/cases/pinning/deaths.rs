//! Whatever dies or hangs while memory is pinned, the start goes on or is over, and nothing of it stays.

use super::scene::{HELPER, Idle, PINNING, Report, Start, Turn, check, guest_memory, host, when};
use crate::suite::{Case, Ctx, Failure, Output, TestResult, case, ensure};

/// Guest memory. It makes for two units, one for each helper.
const MIB: u64 = 128;
/// A blow that is to hit at a certain point is struck again when it came too late.
const ATTEMPTS: usize = 5;

pub(super) fn all() -> Vec<Case> {
    vec![
        case("pinning/a helper that is killed is replaced", host(), helper_killed),
        case("pinning/helpers that are killed again and again are done without", host(), helpers_killed),
        case("pinning/a helper that hangs is killed and replaced", host(), helper_hangs),
        case("pinning/a vmm that is killed leaves nothing, wherever it was", host(), killed),
        case("pinning/guest memory cannot be cut, grown or sealed by others", host(), memfd_is_sealed),
        case("pinning/a pin helper takes nothing but a memfd from a monitor", host(), helper_alone),
    ]
}

/// A start that is dealt `blow` when `condition` holds, until that shows in what is said. It is to succeed each time.
fn survives(ctx: &Ctx, condition: &str, blow: &str, shows: &str) -> TestResult<Output> {
    for _ in 0..ATTEMPTS {
        let idle = Idle::now(ctx)?;
        let output = Start::new(ctx, &check(MIB), &when(condition, blow))?.success()?;
        Report::take(ctx)?.pinned_outside(MIB)?;
        idle.is_back(ctx)?;
        if output.stdout.contains(shows) {
            return Ok(output);
        }
    }
    Err(Failure::new(format!("{ATTEMPTS} starts were over before they were hit: none said {shows:?}")))
}

fn helper_killed(ctx: &Ctx) -> TestResult {
    // One that has just been started may have nothing to do yet, and then nothing is tried again.
    survives(ctx, HELPER, "kill -9 $h", "the pin helper died")?.stdout_contains("was killed by signal 9")?;
    let output = survives(ctx, PINNING, "kill -9 $h", "the pin helper died")?;
    output.stdout_contains("was killed by signal 9")?.stdout_contains(" retries, ")?;
    // While it holds what it has pinned and the monitor has not taken notice.
    let held = "[ $(($(pins) - before)) -ge 16384 ] && h=$(helpers)";
    let blow = format!("kill -STOP $vmm; {}; kill -9 $h; kill -CONT $vmm", when(held, ":"));
    survives(ctx, PINNING, &blow, "the pin helper died")?;
    Ok(())
}

fn helpers_killed(ctx: &Ctx) -> TestResult {
    let kill_all = "while [ -e /proc/$vmm/exe ]; do h=$(helpers) && kill -9 $h; done";
    for _ in 0..ATTEMPTS {
        let idle = Idle::now(ctx)?;
        Start::new(ctx, &check(MIB), kill_all)?.success()?;
        let report = Report::take(ctx)?;
        report.pinned_outside(MIB)?;
        idle.is_back(ctx)?;
        if report.at("/pinned/passed_over").to_string().contains("was killed by signal 9") {
            return Ok(());
        }
    }
    Err(Failure::new(format!("a helper got through {ATTEMPTS} times")))
}

fn helper_hangs(ctx: &Ctx) -> TestResult {
    survives(ctx, PINNING, "kill -STOP $h", "the pin helper did not answer and was killed")?;
    Ok(())
}

fn killed(ctx: &Ctx) -> TestResult {
    let idle = Idle::now(ctx)?;
    killed_in_line(ctx)?;
    idle.is_back(ctx)?;
    killed_while(ctx, &check(MIB), &when(HELPER, "kill -9 $vmm"))?;
    idle.is_back(ctx)?;
    killed_while(ctx, &format!("{} --prefault populate", check(MIB)), &when(PINNING, "kill -9 $vmm"))?;
    idle.is_back(ctx)?;
    // A helper that hangs dies with it.
    killed_while(ctx, &check(MIB), &when(PINNING, "kill -STOP $h; kill -9 $vmm"))?;
    idle.is_back(ctx)?;
    killed_while_refused(ctx)?;
    idle.is_back(ctx)?;
    // The device is as good as before.
    ctx.run(&check(MIB)).expect_success()?;
    Report::take(ctx)?.pinned_outside(MIB).map(drop)
}

/// A start that is over before the blow gets another.
fn killed_while(ctx: &Ctx, command: &str, meanwhile: &str) -> TestResult {
    for _ in 0..ATTEMPTS {
        let mut start = Start::new(ctx, command, meanwhile)?;
        let status = start.status()?;
        // Helpers may still run here: nobody but the kernel ends them.
        Idle::no_process(ctx)?;
        start.output()?;
        if status == "137" {
            return Ok(());
        }
        ensure!(status == "0", "it ended with status {status}");
    }
    Err(Failure::new(format!("{ATTEMPTS} starts were over before they were hit")))
}

/// It has memory, all of it in CMA, but no pins yet.
fn killed_in_line(ctx: &Ctx) -> TestResult {
    let turn = Turn::take(ctx)?;
    let mut start = Start::new(ctx, &format!("{} --contents", check(64)), "")?;
    start.waits()?;
    ctx.run(&format!("kill -9 {}", start.pid)).expect_success()?;
    let status = start.status()?;
    ensure!(status == "137", "it ended with status {status}");
    start.output()?;
    turn.pass_on()
}

/// It has pins, and culprits that it tries again.
fn killed_while_refused(ctx: &Ctx) -> TestResult {
    let hold = ctx.program("hold")?;
    for _ in 0..ATTEMPTS {
        let turn = Turn::take(ctx)?;
        let command =
            format!("vmm -vv {} --prefault populate --contents", check(64).trim_start_matches("vmm "));
        // The moment it says so.
        let log = "mkfifo /tmp/log; exec 3<>/tmp/log; rm /tmp/log";
        let watch = "while read -r line <&3; do echo \"$line\"; case \"$line\" in \
                     *'pinning refused'*) kill -9 $vmm; break;; *' replaced, '*) break;; esac; done";
        let mut start = Start::new(ctx, &format!("{log}; {command} >&3"), watch)?;
        start.waits()?;
        let mut holder = ctx.run(&format!("exec {hold} 0 8")).start()?;
        holder.wait_for("held for good")?;
        turn.pass_on()?;
        let status = start.status()?;
        Idle::no_process(ctx)?;
        start.output()?;
        holder.kill()?;
        if status == "137" {
            return Ok(());
        }
    }
    Err(Failure::new(format!("{ATTEMPTS} starts were over before they were hit")))
}

fn memfd_is_sealed(ctx: &Ctx) -> TestResult {
    let meddle = ctx.program("meddle")?;
    let turn = Turn::take(ctx)?;
    let mut start = Start::new(ctx, &format!("{} --contents", check(64)), "")?;
    start.waits()?;
    let memfd = guest_memory(ctx, &start.pid)?;
    for size in ["0", "4096", "32M", "67104768", "1G"] {
        let cut = ctx.run(&format!("truncate -s {size} {memfd}")).expect_status(1)?;
        cut.stderr_contains("Operation not permitted")?;
    }
    let beyond = ctx.run(&format!("dd if=/dev/zero of={memfd} bs=4096 seek=16384 count=1 conv=notrunc"));
    beyond.expect_status(1)?.stderr_contains("Operation not permitted")?;
    // Nor can its owner be kept from writing to it.
    let seals = ctx.run(&format!("{meddle} seal {memfd}")).expect_success()?;
    for seal in ["seal", "shrink", "grow", "write", "future write"] {
        seals.stdout_contains(&format!("meddle: {seal}: Operation not permitted"))?;
    }
    turn.pass_on()?;
    start.success()?;
    Report::take(ctx)?.pinned_outside(64).map(drop)
}

fn helper_alone(ctx: &Ctx) -> TestResult {
    ctx.run(": > /tmp/empty; truncate -s 64G /tmp/large").expect_success()?;
    for arguments in [
        "",
        "io_uring",
        "io_uring 4",
        "udmabuf 4",
        "io_uring 4294967295",
        "io_uring -1",
        "none 4",
        "io_uring 4 4",
    ] {
        for memory in ["/dev/null", "/dev/zero", "/tmp/empty", "/tmp/large"] {
            let run =
                ctx.run(&format!("vmm pin-helper {arguments} < /dev/null 1<> {memory}")).expect_status(1)?;
            ensure!(run.stderr.is_empty(), "it says {:?}", run.stderr);
        }
    }
    ctx.run("rm /tmp/empty /tmp/large").expect_success()?;
    Ok(())
}
