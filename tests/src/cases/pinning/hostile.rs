//! A host that does not say where its memory is, or says nonsense: starts go on and say what they cannot know, or say what is
//! wrong. None crashes, none hangs.

use super::scene::{PAGES, Report, Start, Turn, check, host};
use crate::suite::{Case, Ctx, Output, TestResult, case, ensure};

const MIB: u64 = 16;
const CMA: &str = "/sys/kernel/debug/cma";

pub(super) fn all() -> Vec<Case> {
    vec![
        case("pinning/memory figures that are garbage", host(), figures),
        case("pinning/held pages are told from missing memory without counters", host(), no_counters),
        case("pinning/CMA areas that cannot be located", host(), areas),
        case("pinning/without CAP_SYS_ADMIN residency is an estimate, and said to be", host(), unprivileged),
    ]
}

/// The start, with `over` mounted over `path` for it alone.
fn start_over(ctx: &Ctx, mounts: &[(&str, &str)], command: &str) -> TestResult<Output> {
    let mounts: Vec<String> =
        mounts.iter().map(|(over, path)| format!("mount --bind {over} {path}")).collect();
    ctx.run(&format!("unshare -m sh -c '{} && exec {command}'", mounts.join(" && "))).deadline(60).output()
}

fn garbage(ctx: &Ctx) -> TestResult {
    let largest = u64::MAX;
    let absurd = format!(
        "MemTotal: {largest} kB\nMemAvailable: {largest} kB\nCmaTotal: {largest} kB\nCmaFree: 9{largest} kB\n\
         Node 0, zone  Movable\n  pages free {largest}\n  spanned {largest}\n  start_pfn: {largest}\n\
         Node {largest}, zone\nnr_free_pages {largest}\npgmigrate_success {largest}\npgmigrate_fail -1\naddress sizes : {largest} bits physical\n"
    );
    ctx.put("/tmp/garbage/absurd", absurd.repeat(100).as_bytes())?;
    ctx.run("cd /tmp/garbage; : > empty; head -c 65536 /dev/urandom > noise").expect_success()?;
    Ok(())
}

fn figures(ctx: &Ctx) -> TestResult {
    garbage(ctx)?;
    let cannot = "error: cannot read the host's memory figures";
    for (file, over, expected) in [
        ("meminfo", "empty", Err(cannot)),
        ("meminfo", "noise", Err(cannot)),
        ("meminfo", "/dev/zero", Err(cannot)),
        ("meminfo", "absurd", Ok("residency unknown: CMA areas cannot be located ")),
        ("meminfo", "/proc/1/mem", Err(cannot)),
        ("zoneinfo", "empty", Err(cannot)),
        ("zoneinfo", "noise", Err(cannot)),
        ("zoneinfo", "/dev/zero", Err(cannot)),
        ("zoneinfo", "absurd", Err("error: pinning the guest needs 16448 KiB, the host has 0 bytes")),
        ("zoneinfo", "/proc/1/mem", Err(cannot)),
        ("vmstat", "empty", Ok(", migrations unknown, ")),
        ("vmstat", "noise", Ok(", migrations unknown, ")),
        ("vmstat", "/dev/zero", Ok(", migrations unknown, ")),
        ("vmstat", "absurd", Ok(", 0 migrated, ")),
        ("vmstat", "/proc/1/mem", Ok(", migrations unknown, ")),
        ("cpuinfo", "noise", Ok(" 0 in CMA, 0 in ZONE_MOVABLE, ")),
        ("cpuinfo", "absurd", Ok(" 0 in CMA, 0 in ZONE_MOVABLE, ")),
    ] {
        let over = if over.starts_with('/') { over.to_owned() } else { format!("/tmp/garbage/{over}") };
        let start = start_over(ctx, &[(&over, &format!("/proc/{file}"))], &check(MIB))?;
        let (status, words) = expected.map_or_else(|words| (4, words), |words| (0, words));
        ensure!(start.status == status, "{over} over {file}: status {}, not {status}", start.status);
        start.stderr_contains(words)?;
        if status == 0 {
            Report::take(ctx)?.says("/pinned/misplaced_pages", 0)?;
        } else {
            start.stderr_contains(" help: ")?;
        }
    }
    ctx.run("rm -r /tmp/garbage").expect_success()?;
    Ok(())
}

fn no_counters(ctx: &Ctx) -> TestResult {
    let hold = ctx.program("hold")?;
    let turn = Turn::take(ctx)?;
    ctx.run(": > /tmp/empty").expect_success()?;
    let hidden = "unshare -m sh -c 'mount --bind /tmp/empty /proc/vmstat && exec";
    let mut start = Start::new(ctx, &format!("{hidden} {} --prefault populate --contents'", check(64)), "")?;
    start.waits()?;
    let mut holder = ctx.run(&format!("exec {hold} 0 8")).start()?;
    holder.wait_for("held for good")?;
    turn.pass_on()?;
    start.success()?.stdout_contains(" x 2 MiB replaced, ")?;
    holder.kill()?;
    Report::take(ctx)?.pinned_outside(64)?;
    ctx.run("rm /tmp/empty").expect_success()?;
    Ok(())
}

fn areas(ctx: &Ctx) -> TestResult {
    garbage(ctx)?;
    ctx.run("mkdir -p /tmp/garbage/none /tmp/garbage/fake/one/ranges/0; cd /tmp/garbage/fake/one; echo 230400 > count; echo 18446744073709551615 > ranges/0/base_pfn").expect_success()?;
    let base = &format!("{CMA}/reserved/ranges/0/base_pfn");
    let count = &format!("{CMA}/reserved/count");
    // One source is enough.
    for mounts in [
        [("/tmp/garbage/empty", "/dev/kmsg")].as_slice(),
        &[("/tmp/garbage/none", "/sys/kernel/debug")],
        &[("/tmp/garbage/noise", base)],
        &[("/tmp/garbage/absurd", count)],
        &[("/tmp/garbage/fake", CMA)],
    ] {
        let start = start_over(ctx, mounts, &check(MIB))?;
        ensure!(start.status == 0, "{mounts:?}: status {}", start.status);
        let report = Report::take(ctx)?;
        report.says("/host/cma_areas/0/ranges/0/1", 900 << 20)?.says("/pinned/now/exact", true)?;
    }
    // None is too few.
    for over in ["/tmp/garbage/none", "/tmp/garbage/fake"] {
        let mounts = [("/tmp/garbage/noise", "/dev/kmsg"), (over, CMA)];
        let start = start_over(ctx, &mounts, &format!("{} --prefault populate", check(MIB)))?;
        ensure!(start.status == 0, "{over}: status {}", start.status);
        start.stderr_contains("residency unknown: CMA areas cannot be located (debugfs: ")?;
        let report = Report::take(ctx)?;
        report.mentions("/host/cma_unknown", "cannot be located")?;
        report.says("/pinned/now/exact", false)?.says("/pinned/misplaced_pages", 0)?;
    }
    ctx.run("rm -r /tmp/garbage").expect_success()?;
    Ok(())
}

fn unprivileged(ctx: &Ctx) -> TestResult {
    let meddle = ctx.program("meddle")?;
    for prefault in ["pin", "populate"] {
        // CAP_SYS_ADMIN is 21.
        let command = format!("{meddle} without 21 {} --prefault {prefault}", check(MIB));
        let start = ctx.run(&command).expect_success()?;
        start.stderr_contains(
            "residency unknown: page frame numbers cannot be read without CAP_SYS_ADMIN (estimate ",
        )?;
        let report = Report::take(ctx)?;
        report.says("/host/sees_frames", false)?.says("/pinned/now/exact", false)?;
        if prefault == "populate" {
            report.says("/pinned/found/exact", false)?;
            // Host-wide, and not to the page: free pages on the lists of CPUs, from starts before, are not counted.
            let now = report.number("/pinned/now/cma");
            ensure!(now < MIB * PAGES / 2, "{now} pages are said to be in CMA, after all have moved");
        }
    }
    // Nor may the kernel log be read then: CAP_SYSLOG is 34.
    let log = "/proc/sys/kernel/dmesg_restrict";
    ctx.run(&format!("echo 1 > {log}; mkdir /tmp/none")).expect_success()?;
    let command = format!("{meddle} without 34 {meddle} without 21 {}", check(MIB));
    let start = start_over(ctx, &[("/tmp/none", CMA)], &command)?;
    ctx.run(&format!("echo 0 > {log}; rmdir /tmp/none")).expect_success()?;
    ensure!(start.status == 0, "status {}", start.status);
    start.stderr_contains("residency unknown: CMA areas cannot be located (debugfs: ")?;
    start.stderr_contains("kernel log: Operation not permitted")?;
    Report::take(ctx).map(drop)
}
