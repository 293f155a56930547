//! Sizes and limits at their edges: what fits is pinned, what does not is refused with figures before anything is allocated.

use super::scene::{CHECK, PAGES, Report, check, host};
use crate::host::NVME;
use crate::suite::{Case, Ctx, TestResult, case, ensure};

pub(super) fn all() -> Vec<Case> {
    vec![
        case("pinning/more than there is outside CMA is refused with figures", host(), more_than_there_is),
        case("pinning/nine tenths of what there is outside CMA is pinned", host(), almost_all_there_is),
        case("pinning/a cgroup with too low a limit is told, not run into", host(), cgroup),
        case("pinning/memlock one page short is refused, enough is enough", host(), memlock),
        case("pinning/sizes at the edges", host(), sizes),
    ]
}

fn oom_kills(ctx: &Ctx) -> TestResult<String> {
    Ok(ctx.run("grep oom_kill /proc/vmstat").expect_success()?.stdout)
}

fn more_than_there_is(ctx: &Ctx) -> TestResult {
    let kills = oom_kills(ctx)?;
    for command in ["run", "check --pin", "check --pin --prefault populate", "check --pin --contents"] {
        let refused = ctx.run(&format!("vmm {command} --vfio {NVME} --memory 2G")).expect_status(4)?;
        refused.stderr_contains("error: pinning the guest needs 2056 MiB, the host has ")?;
        refused.stderr_contains("(free CMA ")?.stderr_contains(" help: lower --memory")?;
    }
    ensure!(oom_kills(ctx)? == kills, "the OOM killer came");
    Ok(())
}

fn almost_all_there_is(ctx: &Ctx) -> TestResult {
    let kills = oom_kills(ctx)?;
    ctx.run(&check(16)).expect_success()?;
    let pinnable = Report::take(ctx)?.number("/host/pinnable");
    let mib = (pinnable >> 20) * 9 / 10;
    ensure!(mib > 512, "the host has only {mib} MiB");
    // In huge pages, for they are zeroed much faster here.
    ctx.run("echo always > /sys/kernel/mm/transparent_hugepage/shmem_enabled").expect_success()?;
    let start = ctx.run(&check(mib)).output()?;
    ctx.run("echo never > /sys/kernel/mm/transparent_hugepage/shmem_enabled").expect_success()?;
    ensure!(start.status == 0, "{mib} MiB are not pinned");
    Report::take(ctx)?.pinned_outside(mib)?;
    ensure!(oom_kills(ctx)? == kills, "the OOM killer came");
    Ok(())
}

fn cgroup(ctx: &Ctx) -> TestResult {
    let group = "/sys/fs/cgroup/guests";
    let inside = |limit: &str, command: &str| {
        format!(
            "echo +memory > /sys/fs/cgroup/cgroup.subtree_control; mkdir -p {group}/one; echo {limit} > {group}/memory.max
             echo $$ > {group}/one/cgroup.procs; exec {command}"
        )
    };
    let kills = oom_kills(ctx)?;
    for limit in ["48M", "64M"] {
        let refused = ctx.run(&inside(limit, &check(64))).expect_status(4)?;
        let limit = limit.replace('M', " MiB");
        refused.stderr_contains(&format!(
            "error: pinning the guest needs 65792 KiB, the memory limit of cgroup /guests is {limit}, "
        ))?;
        refused.stderr_contains("help: raise it (memory.max, ")?;
    }
    for prefault in ["pin", "populate"] {
        ctx.run(&inside("96M", &format!("{} --prefault {prefault}", check(64)))).expect_success()?;
        Report::take(ctx)?.pinned_outside(64)?;
    }
    ensure!(oom_kills(ctx)? == kills, "the OOM killer came");
    ctx.run(&format!("rmdir {group}/one {group}")).expect_success()?;
    Ok(())
}

fn memlock(ctx: &Ctx) -> TestResult {
    let meddle = ctx.program("meddle")?;
    let group = ctx.run(&format!("basename $(readlink /sys/bus/pci/devices/{NVME}/iommu_group)"));
    let node = format!("/dev/vfio/{}", group.expect_success()?.stdout.trim());
    ctx.run(&format!("echo operator:x:1001:1001::/:/bin/sh >> /etc/passwd; chown 1001 {node}"))
        .expect_success()?;
    let check = check(64);
    // Root without CAP_IPC_LOCK, and somebody without any capability.
    for command in [format!("{meddle} without 14 {check}"), format!("su -s /bin/sh operator -c '{check}'")] {
        let short = ctx.run(&format!("ulimit -l 65532; {command}")).expect_status(4)?;
        short.stderr_contains("error: pinning the guest needs a memlock limit of 64 MiB, it is 65532 KiB")?;
        short.stderr_contains("help: raise it (ulimit -l 65536, ")?;
        for prefault in ["pin", "populate"] {
            let command = command.replace(" --report", &format!(" --prefault {prefault} --report"));
            ctx.run(&format!("ulimit -l 65536; {command}")).expect_success()?;
            let report = Report::take(ctx)?;
            report.says("/host/memlock", 64 << 20)?.says("/pinned/pinned_by_dma_map_bytes", 0)?;
            report.says("/pinned/pages", 64 * PAGES)?.says("/pinned/misplaced_pages", 0)?;
        }
    }
    ctx.run(&format!("chown 0 {node}")).expect_success()?;
    Ok(())
}

fn sizes(ctx: &Ctx) -> TestResult {
    for (size, words) in [
        ("4K", "guest memory of 4 KiB is less than 16 MiB"),
        ("16773120", "guest memory of 16380 KiB is less than 16 MiB"),
        ("67108863", "guest memory of 67108863 bytes is not a multiple of 4 KiB"),
        ("12T", "guest memory of 12 TiB exceeds the host's 2.4 GiB"),
        ("18446744073709547520", "exceeds the host's 2.4 GiB"),
        ("18446744073709551616", "--memory `18446744073709551616` is not a size"),
    ] {
        // What tried to have it would run into this limit, and say so.
        let refused = ctx.run(&format!("ulimit -v 2000000; {CHECK} --vfio {NVME} --memory {size}"));
        let refused = refused.expect_status(2)?;
        refused.stderr_contains(words)?.stderr_contains(" help: ")?;
        ensure!(!refused.stderr.contains("address space"), "it was tried");
    }
    for (size, pages) in [("16M", 16 * PAGES), ("16388K", 16 * PAGES + 1), ("102412K", 100 * PAGES + 3)] {
        for how in ["--prefault pin", "--prefault populate --contents"] {
            let start = ctx.run(&format!("{CHECK} {how} --vfio {NVME} --memory {size}"));
            start
                .expect_success()?
                .stderr_contains(&format!(": {pages} pages, "))?
                .stderr_contains(" 0 in CMA, 0 in ZONE_MOVABLE, ")?;
        }
    }
    ctx.run("echo always > /sys/kernel/mm/transparent_hugepage/shmem_enabled").expect_success()?;
    let start = ctx.run(&format!("{CHECK} --vfio {NVME} --memory 1048572K"));
    start.expect_success()?.stderr_contains(": 262143 pages, 0 in CMA, 0 in ZONE_MOVABLE, ")?;
    ctx.run("echo never > /sys/kernel/mm/transparent_hugepage/shmem_enabled").expect_success()?;
    Ok(())
}
