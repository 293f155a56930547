//! Balloons: memory that a guest gives is the host's, and the guest goes on with what it has.

use super::{READY, SOCKET, ctl, machine, shell};
use crate::host::{HostSpec, NVME};
use crate::suite::{Case, Ctx, Interactive, TestResult, case, ensure};

pub(super) fn all() -> Vec<Case> {
    vec![case(
        "api/a balloon and reports of free pages give memory back",
        HostSpec::default().one_cpu(),
        gives_back,
    )]
}

/// Of the guest's 128 MiB, what it writes and forgets again. The rest is too little for the balloon to be full of pages that
/// were never used.
const WRITTEN: u64 = 72 << 20;
const BALLOON: u64 = 64 << 20;
/// What at least must come back of either.
const LEAST: u64 = 24 << 20;

fn gives_back(ctx: &Ctx) -> TestResult {
    let refused = ctx.run(&format!("vmm run --balloon 64M --vfio {NVME}")).expect_status(2)?;
    refused.stderr_contains(
        "error: a balloon and a passed-through device (0000:00:01.0) cannot be had together",
    )?;
    refused.stderr_contains(" help: all memory is pinned for the device")?;
    let refused = ctx.run("vmm run --balloon 1G --memory 512M").expect_status(2)?;
    refused.stderr_contains("error: a balloon of 1 GiB is larger than the machine, which has 512 MiB")?;
    shell(ctx)?;
    inflated(ctx)?;
    reported(ctx)
}

fn inflated(ctx: &Ctx) -> TestResult {
    let flags = "--pcie-ports 1 --balloon 0,deflate-on-oom,statistics=100ms";
    let mut guest = ctx.run(&machine(flags)).deadline(240).start()?;
    settle(&mut guest)?;
    write_and_forget(&mut guest)?;
    let before = resident(ctx)?;
    ensure!(before >= WRITTEN, "the guest has written {WRITTEN} bytes, and {before} are resident");

    ctl(ctx, "resize --balloon 64M")?;
    wait_until(ctx, "info", "balloon    64 MiB of 64 MiB; the guest has ")?;
    let inflated = resident(ctx)?;
    ensure!(inflated + LEAST <= before, "of {before} bytes the host has still {inflated}");
    let metrics = ctl(ctx, "metrics")?;
    metrics.stdout_contains(&format!("vmm_balloon_actual_bytes {BALLOON}\n"))?;
    metrics.line_with("vmm_balloon_guest_available_bytes ")?;
    ctl(ctx, "info")?.stdout_contains("memory     64 MiB")?;

    let device = ctx.run(&format!("vmm ctl -s {SOCKET} add-device {NVME}")).expect_status(2)?;
    device.stderr_contains(
        "error: a balloon and a passed-through device (0000:00:01.0) cannot be had together",
    )?;
    let larger = ctx.run(&format!("vmm ctl -s {SOCKET} resize --balloon 512M")).expect_status(2)?;
    larger.stderr_contains("is larger than the machine")?;

    ctl(ctx, "resize --balloon 0")?;
    wait_until(ctx, "info", "balloon    0 bytes of 0 bytes")?;
    write_and_forget(&mut guest)?;
    let again = resident(ctx)?;
    ensure!(again >= WRITTEN, "the guest has written {WRITTEN} bytes again, and {again} are resident");
    end(guest)
}

fn reported(ctx: &Ctx) -> TestResult {
    let mut guest = ctx.run(&machine("--balloon 0,free-page-reporting,statistics=0")).start()?;
    settle(&mut guest)?;
    write(&mut guest)?;
    let before = resident(ctx)?;
    ensure!(before >= WRITTEN, "the guest has written {WRITTEN} bytes, and {before} are resident");
    guest.send("rm /ram/big\n");
    let left = (before - LEAST) >> 10;
    ctx.run(&format!("{RESIDENT}; until [ $(resident) -le {left} ]; do usleep 100000; done"))
        .expect_success()?;
    // What was given back can be used.
    write_and_forget(&mut guest)?;
    end(guest)
}

/// Has the guest fill memory with a file, and remove it; what it keeps is as it was.
fn write_and_forget(guest: &mut Interactive) -> TestResult {
    write(guest)?;
    guest.send("rm /ram/big; md5sum -c /ram/sum && echo kept.\n");
    let said = guest.wait_for("kept.")?;
    ensure!(said.contains("/ram/keep: OK"), "what the guest keeps has changed: {said}");
    Ok(())
}

fn write(guest: &mut Interactive) -> TestResult {
    let write = format!(
        "dd if=/dev/zero of=/ram/big bs=64k count={} 2>/dev/null; echo there is $(stat -c %s /ram/big).\n",
        WRITTEN >> 16
    );
    guest.send(write);
    guest.wait_for(&format!("there is {WRITTEN}."))?;
    Ok(())
}

/// Waits for the guest, and has it keep something in its memory.
fn settle(guest: &mut Interactive) -> TestResult {
    guest.wait_for(READY)?;
    guest.send("mkdir /ram; mount -t ramfs ram /ram; head -c 1000000 /dev/urandom > /ram/keep; md5sum /ram/keep > /ram/sum\n");
    Ok(())
}

/// KiB of guest memory that have pages, as the host counts them.
const RESIDENT: &str = "resident() { grep RssShmem /proc/$(pidof vmm | tr ' ' '\\n' | sort -n | head -n 1)/status | tr -dc 0-9; }";

fn resident(ctx: &Ctx) -> TestResult<u64> {
    let kib = ctx.run(&format!("{RESIDENT}; resident")).expect_success()?.stdout;
    Ok(kib.trim().parse::<u64>().unwrap_or(0) << 10)
}

/// Asks until the answer has these words.
fn wait_until(ctx: &Ctx, ask: &str, words: &str) -> TestResult {
    let ask = format!("vmm ctl -s {SOCKET} {ask}");
    let wait = format!("until {ask} | grep '{words}'; do usleep 100000; done");
    ctx.run(&wait).expect_success()?;
    Ok(())
}

fn end(guest: Interactive) -> TestResult {
    guest.send("poweroff -f\n");
    let guest = guest.finish()?;
    ensure!(guest.status == 0, "it ended with status {}: {}", guest.status, guest.stderr);
    guest.stdout_lacks("Out of memory")?;
    ensure!(guest.stderr == "vmm: the guest powered off\n", "standard error is {:?}", guest.stderr);
    Ok(())
}
