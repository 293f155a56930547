//! Guests of huge pages (hugetlb): the pool is counted, and pages that it has in CMA only are moved out of it. A pool that is
//! filled while the host runs gets them from there first, where most memory is.

use super::scene::{Report, check, host};
use crate::host::NVME;
use crate::suite::{Case, Ctx, Failure, QUIET, TestResult, case, ensure};

/// In MiB.
const MEMORY: u64 = 128;
const POOL: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB";

pub(super) fn all() -> Vec<Case> {
    vec![case("pinning/huge pages of a pool that lies in CMA are moved out of it", host(), pool)]
}

fn free(ctx: &Ctx) -> TestResult<u64> {
    let figures =
        ctx.run(&format!("cat {POOL}/free_hugepages {POOL}/resv_hugepages")).expect_success()?.stdout;
    let figures: Vec<u64> = figures.lines().filter_map(|line| line.trim().parse().ok()).collect();
    match figures[..] {
        [free, 0] => Ok(free),
        _ => Err(Failure::new(format!("free huge pages, and those promised to somebody: {figures:?}"))),
    }
}

fn pool(ctx: &Ctx) -> TestResult {
    let fill = |pages: u64| ctx.run(&format!("echo {pages} > {POOL}/nr_hugepages; cat {POOL}/nr_hugepages"));
    let check = format!("{} --hugepages 2M", check(MEMORY));
    // Less than it takes: said with figures, in a check without a pin and in a start too, and nothing is taken.
    fill(20).expect_success()?.stdout_contains("20")?;
    for command in
        [check.as_str(), "vmm check --memory 128M --hugepages 2M", "vmm run --memory 128M --hugepages 2M"]
    {
        let refused = ctx.run(&format!("{command} >&2")).expect_status(4)?;
        refused.stderr_contains("guest memory takes 64 huge pages of 2 MiB, the pool has 20 to give (20 in all, 0 promised to others)")?;
        refused.stderr_contains("echo 64 > /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages")?;
    }
    for (command, message) in [
        (
            "run --memory 129M --hugepages 2M",
            "guest memory of 129 MiB is not a whole number of huge pages of 2 MiB",
        ),
        ("run --memory 128M --hugepages 3M", "there are no huge pages of 3145728 bytes"),
        ("run --memory 128M --hugepages 2M --balloon 64M", "a balloon and huge pages cannot be had together"),
        (
            "check --pin --contents --memory 128M --hugepages 2M",
            "--contents and --hugepages cannot be had together",
        ),
    ] {
        ctx.run(&format!("vmm {command}")).expect_status(2)?.stderr_contains(message)?;
    }
    ctx.run("vmm run --memory 128M --hugepages 4M")
        .expect_status(4)?
        .stderr_contains("the host has no huge pages of 4 MiB, but of 2 MiB")?;

    // Just enough, of which the most lie in CMA.
    for prefault in ["pin", "populate"] {
        // What is moved changes places with memory that was free, so each start gets a pool of its own.
        fill(0).expect_success()?;
        fill(64).expect_success()?.stdout_contains("64")?;
        ctx.run(&format!("{check} --prefault {prefault}")).expect_success()?;
        let report = Report::take(ctx)?;
        report.pinned_outside(MEMORY)?;
        ensure!(
            report.number("/pinned/counters/pgmigrate_success") > 0,
            "nothing had to be moved: the pool did not lie in CMA"
        );
        ensure!(free(ctx)? == 64, "huge pages are missing from the pool");
    }

    // A guest runs on them, and all go back.
    let command = format!("vmm run {QUIET} --memory {MEMORY}M --hugepages 2M --vfio {NVME} < /dev/null");
    let guest = ctx.run(&command).expect_success()?;
    guest.stderr_contains(", 0 in CMA, 0 in ZONE_MOVABLE, ")?;
    guest.stdout_contains("sha256")?;
    ensure!(free(ctx)? == 64, "huge pages are missing from the pool");
    fill(0).expect_success()?;
    Ok(())
}
