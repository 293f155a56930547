//! Pages that a device may touch are outside CMA, on a host whose memory is mostly CMA.

use crate::host::{HostSpec, NVME};
use crate::suite::{Case, Ctx, TestResult, case, ensure};

pub(super) fn all() -> Vec<Case> {
    let host = || HostSpec::default().mostly_cma();
    vec![
        case("pinning/the whole CMA area can be allocated while the guest runs", host(), area_stays_free),
        case("pinning/populated memory is moved out of CMA", host(), eviction),
        case("pinning/more than there is outside CMA is refused with figures", host(), admission),
    ]
}

fn area_stays_free(ctx: &Ctx) -> TestResult {
    let mut guest = ctx.run(&format!("vmm run --memfd --vfio {NVME} --memory 512M")).start()?;
    guest.wait_for("vmm> ")?;
    let area = ctx.run("ls -d /sys/kernel/debug/cma/*").expect_success()?.stdout.trim().to_owned();
    ensure!(area.lines().count() == 1, "the host has not one CMA area: {area}");
    // In pages, as `count` is.
    let allocate = format!(
        "n=$(($(sed -n 's/^CmaTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo) / 4)); echo $n > {area}/alloc"
    );
    ctx.run(&format!("{allocate} && cat {area}/used"))
        .expect_success()?
        .stdout_contains(&format!("{}", 900 * 256))?;
    guest.send("poweroff\n");
    let guest = guest.finish()?;
    ctx.run(&format!("echo $(cat {area}/used) > {area}/free; cat {area}/used"))
        .expect_success()?
        .stdout_contains("0\n")?;
    ensure!(guest.status == 0, "the guest ended with status {}", guest.status);
    guest.stderr_contains(": 131072 pages, 0 in CMA, 0 in ZONE_MOVABLE, 0 migrated, ")?;
    Ok(())
}

fn admission(ctx: &Ctx) -> TestResult {
    let refused = ctx.run(&format!("vmm run --vfio {NVME} --memory 2G")).expect_status(4)?;
    refused.stderr_contains("CMA")?;
    refused.stderr_contains("help: ")?;
    ctx.run("dmesg | grep -i 'out of memory'").expect_status(1)?;
    Ok(())
}

fn eviction(ctx: &Ctx) -> TestResult {
    let command = format!("vmm check --pin --memory 256M --vfio {NVME} --prefault populate");
    let check = ctx.run(&command).expect_success()?;
    let found = check.stderr.split_once("found ").and_then(|(_, rest)| rest.split(' ').next());
    let found: u64 = found.unwrap_or_default().parse()?;
    ensure!(found > 0, "no page was in CMA, so nothing was shown");
    check.stderr_contains("now 0 in CMA, 0 in ZONE_MOVABLE, ")?;
    Ok(())
}
