//! Memory that is populated, in CMA, while others hold pages of it: all of it is pinned outside CMA in the end, with the
//! same contents.

use std::collections::BTreeSet;

use serde_json::Value;

use super::scene::{Idle, PAGES, Report, Start, Turn, check, guest_memory, host};
use crate::suite::{Case, Ctx, Output, TestResult, case, ensure};

/// Guest memory.
const MIB: u64 = 64;
/// What is refused, and replaced, as one.
const SUB_UNIT: u64 = 2 << 20;
const SHMEM_THP: &str = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";

pub(super) fn all() -> Vec<Case> {
    vec![
        case("pinning/pages held for 2 ms, 50 ms and 5 s", host(), transient),
        case("pinning/huge pages held for 2 ms, 50 ms and 5 s", host(), transient_huge),
        case("pinning/pages held until the end are replaced", host(), for_good),
        case("pinning/huge pages held until the end are replaced", host(), for_good_huge),
        case(
            "pinning/memory that another process has filled is found and its culprits located",
            host(),
            filled,
        ),
    ]
}

fn transient(ctx: &Ctx) -> TestResult {
    let idle = Idle::now(ctx)?;
    for (ms, pages) in [(2, 16), (50, 16), (5000, 4)] {
        beside(ctx, ms, pages)?;
    }
    idle.is_back(ctx)
}

fn transient_huge(ctx: &Ctx) -> TestResult {
    huge(ctx, transient)
}

fn for_good(ctx: &Ctx) -> TestResult {
    let idle = Idle::now(ctx)?;
    let (held, output, report) = beside(ctx, 0, 8)?;
    let held: BTreeSet<u64> = held
        .split(['[', ']', ',', ' '])
        .filter_map(|word| word.parse::<u64>().ok())
        .map(|offset| offset - offset % SUB_UNIT)
        .collect();
    ensure!(!held.is_empty(), "no page was held");
    let culprits = report.at("/pinned/culprit_list").as_array().map(Vec::as_slice).unwrap_or_default();
    let of = |culprit: &Value, key| culprit.get(key).cloned().unwrap_or_default();
    // Guest memory as small as this is one region: its addresses are offsets in the memfd.
    let replaced: BTreeSet<u64> = culprits
        .iter()
        .filter(|culprit| of(culprit, "replaced") == true && of(culprit, "size") == SUB_UNIT)
        .filter_map(|culprit| of(culprit, "start").as_u64())
        .collect();
    ensure!(!replaced.is_empty(), "nothing was replaced");
    ensure!(replaced.is_subset(&held), "replaced {replaced:?}, held {held:?}");
    output.stdout_contains(&format!("{} x 2 MiB replaced, ", replaced.len()))?;
    idle.is_back(ctx)
}

fn for_good_huge(ctx: &Ctx) -> TestResult {
    huge(ctx, for_good)
}

/// The pages are in the memfd, and not in the page tables of the start.
fn filled(ctx: &Ctx) -> TestResult {
    let hold = ctx.program("hold")?;
    let idle = Idle::now(ctx)?;
    for (from, mib) in [(16, MIB / 2), (0, MIB)] {
        let turn = Turn::take(ctx)?;
        let mut start = Start::new(ctx, &check(MIB).replacen("vmm", "vmm -vv", 1), "")?;
        start.waits()?;
        let memfd = guest_memory(ctx, &start.pid)?;
        ctx.run(&format!("dd if=/dev/zero of={memfd} bs=1M seek={from} count={mib} conv=notrunc"))
            .expect_success()?;
        let mut holder = None;
        if mib == MIB {
            let mut all = ctx.run(&format!("exec {hold} 0 8")).start()?;
            all.wait_for("held for good")?;
            holder = Some(all);
        }
        turn.pass_on()?;
        let output = start.success()?;
        let report = Report::take(ctx)?;
        report.pinned_outside(MIB)?.says("/pinned/found/exact", true)?;
        report.says("/pinned/found/absent", (MIB - mib) * PAGES)?;
        let found = report.number("/pinned/found/cma");
        ensure!(found > mib * PAGES / 2, "only {found} pages were found in CMA");
        if let Some(holder) = holder {
            holder.kill()?;
            let located =
                |line: &str| line.contains("cannot be pinned where it is") && !line.ends_with("culprits=0");
            ensure!(output.stdout.lines().any(located), "no culprit was located");
            output.stdout_contains(" x 2 MiB replaced, ")?;
        }
    }
    idle.is_back(ctx)
}

/// A start beside one who holds `pages` pages for `ms` at a time, or for good; gives what he and it said, and the report. The
/// start checks the contents itself.
fn beside(ctx: &Ctx, ms: u64, pages: u64) -> TestResult<(String, Output, Report)> {
    let hold = ctx.program("hold")?;
    let turn = Turn::take(ctx)?;
    let command = format!("{} --prefault populate --contents", check(MIB));
    let mut start = Start::new(ctx, &command, "")?;
    start.waits()?;
    let mut holder = ctx.run(&format!("exec {hold} {ms} {pages}")).start()?;
    let mut held = holder.wait_for("pages held")?;
    held += &holder.wait_for("\n")?;
    turn.pass_on()?;
    let output = start.success()?;
    holder.kill()?;
    let report = Report::take(ctx)?;
    let found = report.number("/pinned/found/cma");
    // The kernel takes from CMA while more than half of what is free lies there.
    ensure!(found > MIB * PAGES / 4, "only {found} pages were in CMA");
    report.pinned_outside(MIB)?;
    Ok((held, output, report))
}

/// The same with memory in huge pages.
fn huge(ctx: &Ctx, work: fn(&Ctx) -> TestResult) -> TestResult {
    ctx.run(&format!("echo always > {SHMEM_THP}")).expect_success()?;
    let allocated = "awk '/^thp_file_alloc / {print $2}' /proc/vmstat";
    let count = || -> TestResult<u64> { Ok(ctx.run(allocated).expect_success()?.stdout.trim().parse()?) };
    let before = count()?;
    work(ctx)?;
    let huge = count()? - before;
    ensure!(huge >= MIB / 2, "only {huge} huge pages were allocated");
    ctx.run(&format!("echo never > {SHMEM_THP}")).expect_success()?;
    Ok(())
}
