//! Memory that comes and goes while the guest runs, beside a passed-through drive that writes to it. The guest runs the kernel of hosts: that of
//! guests knows no such memory.

use super::{READY, SHELL, SOCKET, ctl, shell};
use crate::host::{HostSpec, NVME};
use crate::suite::{Case, Ctx, Interactive, TestResult, case, ensure};

pub(super) fn all() -> Vec<Case> {
    let name = "api/memory comes and goes beside a drive, over a reboot";
    vec![case(name, HostSpec::default().one_cpu(), comes_and_goes)]
}

/// A kernel that brings memory into use while it runs.
const KERNEL: &str = "/tmp/vmlinux";
/// Bytes of the drive that are read into what was plugged in.
const READ: u64 = 1 << 20;
/// What is plugged in, of which Linux spends some on itself.
const PLUGGED: u64 = 256 << 20;

/// Pages of processes come from what was plugged in, which they alone are given (ZONE_MOVABLE).
const CMDLINE: &str = "console=ttyS0 quiet memhp_default_state=online_movable";

/// Bytes of the guest's memory that have pages on the host.
const ALLOCATED: &str = "for fd in /proc/$(pidof vmm)/fd/*; do case $(readlink $fd) in *guest-ram*) \
                         echo $(($(stat -L -c %b $fd) * 512)); break;; esac; done";

fn comes_and_goes(ctx: &Ctx) -> TestResult {
    let refused = ctx.run("vmm run --hotplug-memory 1G,plugged=2G").expect_status(2)?;
    refused.stderr_contains("error: 2 GiB of memory to be plugged in is more than the 1 GiB")?;
    let refused = ctx.run("vmm run --hotplug-memory 1000M").expect_status(2)?;
    refused.stderr_contains("is not a multiple of 128 MiB")?;
    shell(ctx)?;
    ctx.put_host_kernel(KERNEL)?;
    let command = format!(
        "vmm run --cmdline '{CMDLINE}' --api-socket {SOCKET} --memory 256M --hotplug-memory 1G --vfio {NVME} --kernel {KERNEL} --initrd {SHELL}"
    );
    let mut guest = ctx.run(&command).deadline(400).start()?;
    guest.wait_for(READY)?;
    let before = allocated(ctx)?;
    grows(ctx, &mut guest)?;
    let grown = allocated(ctx)?;
    ensure!(grown >= before + PLUGGED, "{PLUGGED} bytes were pinned: {before} before, {grown} now");
    let refused = ctx.run(&format!("vmm ctl -s {SOCKET} resize --memory 2G")).expect_status(2)?;
    refused.stderr_contains("is more than the 1 GiB that there is room for")?;

    ctl(ctx, "resize --memory 256M")?;
    guest.send("until [ $(total) -lt 262144 ]; do usleep 100000; done; echo it has shrunk\n");
    guest.wait_for("it has shrunk")?;
    ctx.run(&format!(
        "until vmm ctl -s {SOCKET} info | grep -q 'memory     256 MiB'; do usleep 100000; done"
    ))
    .deadline(120)
    .expect_success()?;
    let shrunk = allocated(ctx)?;
    ensure!(shrunk < before + (4 << 20), "what was given back is the host's: {before} before, {shrunk} now");

    grows(ctx, &mut guest)?;
    guest.send("reboot -f\n");
    guest.wait_for(READY)?;
    // It begins with what it was told to have, and the drive reaches all of it again.
    has_grown(ctx, &mut guest)?;
    guest.send("poweroff -f\n");
    let guest = guest.finish()?;
    ensure!(guest.status == 0, "it ended with status {}", guest.status);
    guest.stdout_lacks("rejected")?;
    ctx.run(&format!("rm {SHELL} {KERNEL}")).expect_success()?;
    Ok(())
}

fn grows(ctx: &Ctx, guest: &mut Interactive) -> TestResult {
    ctl(ctx, "resize --memory 512M")?;
    has_grown(ctx, guest)
}

/// The guest uses what was plugged in, and the drive writes to it: what it reads is what is on the drive.
fn has_grown(ctx: &Ctx, guest: &mut Interactive) -> TestResult {
    guest.send(
        "total() { while read what size unit; do [ $what != MemTotal: ] || echo $size; done < /proc/meminfo; }\n",
    );
    guest.send("until [ $(total) -gt 400000 ]; do usleep 100000; done; echo it has grown\n");
    guest.wait_for("it has grown")?;
    guest.send("dd if=/dev/nvme0n1 bs=1M count=1 iflag=direct 2>/dev/null | sha256sum\n");
    guest.wait_for(&ctx.artefacts.disk.sha256(READ)?)?;
    ctl(ctx, "info")?.stdout_contains("memory     512 MiB")?;
    Ok(())
}

fn allocated(ctx: &Ctx) -> TestResult<u64> {
    Ok(super::number(&ctx.run(ALLOCATED).expect_success()?.stdout)? as u64)
}
