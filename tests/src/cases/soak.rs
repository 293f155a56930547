//! Again and again with two devices: reboots, starts and stops, and starts that are killed anywhere. Devices work each
//! time, and nothing is left behind that was not there before.

use std::thread;
use std::time::{Duration, Instant};

use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use super::passthrough::pins;
use crate::host::{HostSpec, NIC, NVME};
use crate::suite::{Case, Ctx, Failure, GuestInitrd, Interactive, QUIET, TestResult, case, ensure};

pub(super) fn all() -> Vec<Case> {
    let narrow = || HostSpec::default().aw_bits(39);
    vec![
        case("soak/a start and stop with two devices, after one that is killed", narrow(), |ctx| {
            starts(ctx, 1)
        }),
        case("long/20 reboots with two devices, container, 39 bits", narrow(), |ctx| {
            reboots(ctx, "container", 20)
        }),
        case("long/50 starts and stops with two devices, each after one that is killed", narrow(), |ctx| {
            starts(ctx, 50)
        }),
    ]
}

const INITRD: &str = "/tmp/soak.cpio";
const GOOD: &str = "both devices work";
const SEED: u64 = 4;

/// What a guest does: 1 MiB from the drive, a packet to the network and one back, and both with interrupts.
const SCRIPT: &str = "\
    interrupts() { awk -v of=\"$1\" '$0 ~ of { for (i = 2; i <= NF; i++) if ($i ~ /^[0-9]+$/) n += $i } END { print n + 0 }' /proc/interrupts; }\n\
    until (: < /dev/nvme0n1) 2>/dev/null; do usleep 20000; done\n\
    dd if=/dev/nvme0n1 bs=1M count=1 iflag=direct 2>/dev/null | sha256sum\n\
    ip link set eth0 up; ip addr add 10.0.2.15/24 dev eth0; ping -c 1 -w 60 10.0.2.2\n\
    echo \"interrupts of the drive $(interrupts nvme0q), of the NIC $(interrupts eth0)\"\n\
    [ $(interrupts nvme0q) -gt 1 ] && [ $(interrupts eth0) -gt 1 ] && echo both devices work\n\
    read what; [ \"$what\" = reboot ] && reboot -f\n\
    poweroff -f";

fn start<'a>(ctx: &'a Ctx, backend: &str) -> TestResult<Interactive<'a>> {
    let command = format!(
        "exec vmm run {QUIET} --memory 128M --initrd {INITRD} --vfio {NVME},backend={backend} --vfio {NIC},backend={backend}"
    );
    ctx.run(&command).deadline(3600).start()
}

/// Waits until the guest has used both devices.
fn works(ctx: &Ctx, guest: &mut Interactive) -> TestResult {
    guest.wait_for(&ctx.artefacts.disk.sha256(1 << 20)?)?;
    guest.wait_for("1 packets received")?;
    guest.wait_for(GOOD)?;
    Ok(())
}

fn put_guest(ctx: &Ctx) -> TestResult {
    ctx.put(INITRD, &GuestInitrd::with_script(ctx.artefacts, SCRIPT)?.build()?)
}

/// What the machine and the kernel hold for it: descriptors by kind, maps of devices, dma-bufs, pins.
pub(super) fn held(ctx: &Ctx) -> TestResult<String> {
    let counts = "p=/proc/$(pidof vmm)
        for f in $p/fd/*; do readlink $f; done | sed 's/[0-9]\\+//g' | sort | uniq -c
        echo \"$(grep -c vfio $p/maps) maps of devices\"
        grep -h Total /sys/kernel/debug/dma_buf/bufinfo";
    let counts = ctx.run(counts).expect_success()?.stdout;
    let (acquired, released) = pins(ctx)?;
    Ok(format!("{counts}{} pages pinned", acquired - released))
}

fn reboots(ctx: &Ctx, backend: &str, rounds: u32) -> TestResult {
    put_guest(ctx)?;
    let mut guest = start(ctx, backend)?;
    works(ctx, &mut guest)?;
    let first = held(ctx)?;
    ensure!(first.contains("anon_inode:[eventfd]"), "descriptors are not told apart: {first}");
    for round in 1..=rounds {
        guest.send("reboot\n");
        works(ctx, &mut guest)?;
        let now = held(ctx)?;
        ensure!(now == first, "after reboot {round} there is\n{now}\ninstead of\n{first}");
    }
    guest.send("poweroff\n");
    let guest = guest.finish()?;
    ensure!(guest.status == 0, "it ended with status {}", guest.status);
    ensure!(
        guest.stderr.matches("the guest reboots").count() == rounds as usize,
        "it did not reboot so often"
    );
    Ok(())
}

fn starts(ctx: &Ctx, rounds: u32) -> TestResult {
    put_guest(ctx)?;
    let mut random = SplitMix64::seed_from_u64(SEED);
    let before = pins(ctx).map(|(acquired, released)| acquired - released)?;
    let began = Instant::now();
    stop(ctx, start(ctx, "iommufd")?)?;
    let whole = began.elapsed();
    for round in 0..rounds {
        let backend = if round % 2 == 0 { "container" } else { "iommufd" };
        let killed = start(ctx, backend)?;
        // Anywhere between its first instruction and its end.
        let life = whole.mul_f64((random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64);
        thread::sleep(life);
        killed.kill()?;
        // At once, whatever is still being taken down.
        stop(ctx, start(ctx, backend)?).map_err(|failure| after(round, life, &failure))?;
        let left = pins(ctx).map(|(acquired, released)| acquired - released)?;
        ensure!(
            left == before,
            "after round {round}, killed after {life:?}, {left} pages are pinned, not {before}"
        );
        ctx.run("pidof vmm").expect_status(1)?;
        ctx.run("ls -l /proc/[0-9]*/fd 2>/dev/null | grep -E '/dev/(vfio|iommu|kvm)'").expect_status(1)?;
        ctx.run("grep -h 'Total 0 objects' /sys/kernel/debug/dma_buf/bufinfo").expect_success()?;
    }
    Ok(())
}

fn after(round: u32, life: Duration, failure: &Failure) -> Failure {
    Failure::new(format!("round {round}, after one that was killed after {life:?}: {failure}"))
}

/// Both devices work, and it ends well.
fn stop(ctx: &Ctx, mut guest: Interactive) -> TestResult {
    works(ctx, &mut guest)?;
    guest.send("poweroff\n");
    let guest = guest.finish()?;
    ensure!(guest.status == 0, "it ended with status {}", guest.status);
    Ok(())
}
