//! Devices that the guest confines: they work, reach what the guest maps for them, and nothing else. The guest runs the kernel of hosts: that of
//! guests knows no IOMMU.

use super::passthrough::pins;
use crate::host::{HostSpec, NIC, NVME};
use crate::suite::{Case, Ctx, GuestInitrd, Interactive, Output, TestResult, case, ensure};

pub(super) fn all() -> Vec<Case> {
    let host = || HostSpec::default().aw_bits(39);
    vec![
        case(
            "iommu/a confined drive works over a reboot, and reaches nothing else",
            host(),
            reads_and_writes,
        ),
        case("long/a confined drive beside a device that is not", host(), beside),
        case("iommu/a drive that is not confined reaches what it is told to", host(), unconfined),
        case(
            "long/pages that another process holds are not mapped for a confined device, until it lets go",
            HostSpec::default().mostly_cma(),
            held,
        ),
        case("iommu/what cannot be had is refused", host(), refused),
    ]
}

/// A kernel that has a driver for it.
const KERNEL: &str = "/tmp/vmlinux";
const INITRD: &str = "/tmp/iommu.cpio";
/// Memory that the guest's kernel leaves alone.
const CMDLINE: &str = "console=ttyS0 quiet memmap=4M$0xc000000";
/// Bytes of the drive that are read.
const READ: u64 = 1 << 20;

/// Which functions are in a group, and what the drive has on it, twice over: a part of it is copied elsewhere, read there, and then put back.
const WORK: &str = r#"
    echo "grouped: "$(basename -a /sys/kernel/iommu_groups/*/devices/*)
    sum() { dd if=/dev/nvme0n1 bs=256k iflag=direct "$@" 2>/dev/null | sha256sum; }
    work() {
        sum count=4
        before=$(sum skip=160 count=1)
        dd if=/dev/nvme0n1 of=/saved bs=256k skip=160 count=1 iflag=direct 2>/dev/null
        dd if=/dev/nvme0n1 of=/first bs=256k count=1 iflag=direct 2>/dev/null
        dd if=/first of=/dev/nvme0n1 bs=256k seek=160 conv=notrunc oflag=direct 2>/dev/null
        [ "$(sum skip=160 count=1)" = "$(sum count=1)" ] && echo it was written
        dd if=/saved of=/dev/nvme0n1 bs=256k seek=160 conv=notrunc oflag=direct 2>/dev/null
        [ "$(sum skip=160 count=1)" = "$before" ] && echo it was put back
    }
    work; echo it has worked; read what; eval "$what""#;

/// Has the drive write to that memory.
const ATTACK: &str = "for d in /sys/bus/pci/drivers/nvme/0*; do echo ${d##*/} > $d/driver/unbind; done; \
                      hostile drive 0xc000000";

/// Puts kernel and guest into the host.
fn put(ctx: &Ctx, script: &str, files: &[(&str, &[u8])]) -> TestResult {
    ctx.put_host_kernel(KERNEL)?;
    let mut initrd = GuestInitrd::with_script(ctx.artefacts, script)?;
    for (path, content) in files {
        initrd = initrd.file(path, content)?;
    }
    ctx.put(INITRD, &initrd.build()?)
}

fn machine(flags: &str) -> String {
    format!("vmm -v run --cmdline '{CMDLINE}' --memory 256M --kernel {KERNEL} --initrd {INITRD} {flags}")
}

/// What the guest has done is right.
fn worked(ctx: &Ctx, said: &str) -> TestResult {
    for sign in [ctx.artefacts.disk.sha256(READ)?.as_str(), "it was written", "it was put back"] {
        ensure!(said.contains(sign), "no {sign:?} in {said}");
    }
    Ok(())
}

/// Bytes that are pinned for devices of vmm, by a container or by an iommufd.
const PINNED: &str = "grep -E '^Vm(Lck|Pin)' /proc/$(pidof vmm)/status";

fn pinned(ctx: &Ctx) -> TestResult<u64> {
    let said = ctx.run(PINNED).expect_success()?.stdout;
    Ok(said.split_whitespace().flat_map(str::parse::<u64>).sum::<u64>() << 10)
}

/// Pages of the host that are pinned, by whomever.
fn pinned_on_host(ctx: &Ctx) -> TestResult<u64> {
    let (acquired, released) = pins(ctx)?;
    Ok(acquired.saturating_sub(released))
}

/// None is that was not before.
fn nothing_stays(ctx: &Ctx, before: u64) -> TestResult {
    let now = pinned_on_host(ctx)?;
    ensure!(now == before, "{before} pages were pinned before, {now} are now");
    Ok(())
}

/// In the end the guest's root has the controller fetch its commands from memory that nobody has mapped for it.
fn reads_and_writes(ctx: &Ctx) -> TestResult {
    let before = pinned_on_host(ctx)?;
    let hostile = ctx.get(&ctx.program("hostile")?)?;
    put(ctx, WORK, &[("bin/hostile", &hostile)])?;
    let mut guest =
        ctx.run(&machine(&format!("--vfio {NVME},iommu,backend=iommufd"))).deadline(300).start()?;
    let last = format!("{ATTACK}; poweroff -f");
    for next in ["reboot -f", &last] {
        let said = guest.wait_for("it has worked")?;
        worked(ctx, &said)?;
        ensure!(said.contains("grouped: 0000:00:01.0\r\n"), "what is confined: {said}");
        // Buffers, rings and what the guest keeps mapped until later; all of its memory would be 256 MiB.
        let bytes = pinned(ctx)?;
        ensure!((4096..64 << 20).contains(&bytes), "{bytes} bytes are pinned");
        guest.send(format!("{next}\n"));
    }
    let guest = ends_well(guest, "iommufd")?;
    guest.stdout_contains("hostile: the drive has not reached the memory")?;
    nothing_stays(ctx, before)?;
    ctx.run(&format!("rm {INITRD} {KERNEL}")).expect_success()?;
    Ok(())
}

/// Without an IOMMU of the guest's it reaches it.
fn unconfined(ctx: &Ctx) -> TestResult {
    let hostile = ctx.get(&ctx.program("hostile")?)?;
    let script = format!("until [ -b /dev/nvme0n1 ]; do usleep 20000; done; {ATTACK}; poweroff -f");
    let initrd = GuestInitrd::with_script(ctx.artefacts, &script)?.file("bin/hostile", &hostile)?;
    ctx.put(INITRD, &initrd.build()?)?;
    let command = format!("vmm run --cmdline '{CMDLINE}' --memory 256M --initrd {INITRD} --vfio {NVME}");
    ctx.run(&command).expect_success()?.stdout_contains("hostile: the drive has reached the memory")?;
    ctx.run(&format!("rm {INITRD}")).expect_success()?;
    Ok(())
}

fn ends_well(guest: Interactive, backend: &str) -> TestResult<Output> {
    let guest = guest.finish()?;
    ensure!(guest.status == 0, "it ended with status {}", guest.status);
    guest.stderr_contains(&format!("devices opened backend={backend} "))?;
    ensure!(!guest.stderr.contains("confined device"), "{}", guest.stderr);
    Ok(guest)
}

fn beside(ctx: &Ctx) -> TestResult {
    let before = pinned_on_host(ctx)?;
    put(ctx, WORK, &[])?;
    let command = machine(&format!("--vfio {NIC},backend=container --vfio {NVME},iommu --rng"));
    let mut guest = ctx.run(&command).deadline(300).start()?;
    let said = guest.wait_for("it has worked")?;
    worked(ctx, &said)?;
    ensure!(said.contains("grouped: 0000:00:02.0\r\n"), "what is confined: {said}");
    guest.send("ip link set eth0 up && udhcpc -i eth0 -n -q -s /bin/true; poweroff -f\n");
    let guest = ends_well(guest, "container")?;
    guest.stdout_contains("lease of 10.0.2.15 obtained")?;
    // All of it is pinned for the one that is not confined.
    guest.stderr_contains(&format!("pinned 256 MiB for {NIC}: 65536 pages, 0 in CMA"))?;
    nothing_stays(ctx, before)?;
    ctx.run(&format!("rm {INITRD} {KERNEL}")).expect_success()?;
    Ok(())
}

/// The guest's own VFIO, which a program of the guest's maps this much memory by.
const VFIO: &str = "\
    d=/sys/bus/pci/devices/0000:00:01.0; echo vfio-pci > $d/driver_override; \
    until [ -e $d/driver ]; do usleep 20000; done; echo 0000:00:01.0 > $d/driver/unbind; \
    echo 0000:00:01.0 > /sys/bus/pci/drivers_probe; \
    map() { populate_and_map 64 0000:00:01.0 /report > /log 2>&1; echo mapped $?; }; \
    echo it is bound; while read -r what; do eval \"$what\"; done";

/// What programs map is contiguous in parts, and large: it takes the same way as memory at a start, and its reports.
fn held(ctx: &Ctx) -> TestResult {
    let before = pinned_on_host(ctx)?;
    let (hold, program) = (ctx.program("hold")?, ctx.get(&ctx.program("populate_and_map")?)?);
    put(ctx, VFIO, &[("bin/populate_and_map", &program)])?;
    let command = machine(&format!("--vfio {NVME},iommu --pin-deadline 200ms"));
    let command = command.replacen("quiet", "quiet vfio_iommu_type1.allow_unsafe_interrupts=1", 1);
    let mut guest = ctx.run(&command).deadline(300).start()?;
    guest.wait_for("it is bound")?;
    // All that is free has pages, in CMA mostly: whatever is held cannot be moved out. More is held than can be missed.
    guest.send("head -c 100M /dev/zero > /fill; rm /fill; echo it has pages\n");
    guest.wait_for("it has pages")?;
    let mut holder = ctx.run(&format!("exec {hold} 600000 20")).start()?;
    holder.wait_for("20 pages held")?;
    // Linux is told which maps are refused, and does not look (`viommu_add_req`).
    guest.send("map\n");
    guest.wait_for("mapped 0")?;
    holder.kill()?;
    guest.send("map; poweroff -f\n");
    guest.wait_for("mapped 0")?;
    let guest = guest.finish()?;
    ensure!(guest.status == 0, "it ended with status {}", guest.status);
    guest.stderr_contains("a confined device does not get what the guest maps for it")?;
    guest.stderr_contains(" could not be moved out of CMA or ZONE_MOVABLE")?;
    nothing_stays(ctx, before)?;
    ctx.run(&format!("rm {INITRD} {KERNEL}")).expect_success()?;
    Ok(())
}

fn refused(ctx: &Ctx) -> TestResult {
    let refused = ctx.run(&format!("vmm run --vfio {NVME},iommu,port")).expect_status(2)?;
    refused.stderr_contains("cannot be behind the guest's IOMMU and behind a root port")?;
    let refused = ctx.run(&format!("vmm run --vfio {NVME},iommu --balloon 0")).expect_status(2)?;
    refused.stderr_contains("a balloon and a passed-through device")?;
    let refused = ctx.run(&format!("vmm run --vfio {NVME},iommu --hotplug-memory 1G")).expect_status(2)?;
    refused.stderr_contains("memory that can be plugged in and a device behind the guest's IOMMU")?;
    ctx.run(&format!("vmm check --vfio {NVME},iommu --vfio {NIC}")).expect_success()?;
    Ok(())
}
