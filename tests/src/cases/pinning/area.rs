//! The operator's proof: the whole CMA area can be allocated while a guest with a device runs, and after it has gone.

use super::scene::{Idle, Report, check, host};
use crate::host::NVME;
use crate::suite::{Case, Ctx, QUIET, SAYS_READY, TestResult, case, ensure};

pub(super) fn all() -> Vec<Case> {
    vec![
        case("pinning/the whole CMA area can be allocated while the guest runs", host(), area_stays_free),
        case("pinning/populated memory is moved out of CMA", host(), eviction),
    ]
}

/// Allocates all of the CMA area at once, and gives it back. A page that somebody uses for a moment may refuse to move, one
/// that is pinned always does.
fn allocate_all(ctx: &Ctx) -> TestResult {
    let script = "\
        cd /sys/kernel/debug/cma/reserved; pages=$(cat count)
        for i in $(seq 100); do
            if echo $pages > alloc; then u=$(cat used); echo $pages > free; echo \"$u allocated, $(cat used) left\"; exit; fi
            usleep 100000
        done; exit 1";
    let pages = 900 * 256;
    ctx.run(script).expect_success()?.stdout_contains(&format!("{pages} allocated, 0 left"))?;
    Ok(())
}

fn area_stays_free(ctx: &Ctx) -> TestResult {
    let idle = Idle::now(ctx)?;
    let tiny = ctx.tiny(&SAYS_READY)?;
    for (prefault, guest, runs) in [("pin", tiny, "ready"), ("populate", QUIET, "vmm> ")] {
        let command = format!(
            "vmm run {guest} --memfd --vfio {NVME} --memory 128M --prefault {prefault} --pin-deadline 2m --grace 0"
        );
        let mut guest = ctx.run(&command).start()?;
        guest.wait_for(runs)?;
        allocate_all(ctx)?;
        ctx.run("kill -TERM $(pidof vmm)").expect_success()?;
        let guest = guest.finish()?;
        ensure!(guest.status == 0, "the guest ended with status {}", guest.status);
        guest.stderr_contains(": 32768 pages, ")?.stderr_contains(" 0 in CMA, 0 in ZONE_MOVABLE, ")?;
        idle.is_back(ctx)?;
    }
    allocate_all(ctx)
}

fn eviction(ctx: &Ctx) -> TestResult {
    for backend in ["iommufd", "container"] {
        let check = check(128).replace(NVME, &format!("{NVME},backend={backend}"));
        ctx.run(&format!("{check} --prefault populate")).expect_success()?;
        let report = Report::take(ctx)?;
        report.pinned_outside(128)?;
        ensure!(report.number("/pinned/found/cma") > 0, "no page was in CMA, so nothing was shown");
    }
    Ok(())
}
