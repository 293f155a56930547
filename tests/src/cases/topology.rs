//! Root ports: devices behind them work, come and go while the guest runs, and leave nothing behind.

use super::extra::{self, FUNCTIONS};
use super::passthrough::pins;
use crate::host::{HostSpec, NIC, NVME};
use crate::suite::{Case, Ctx, GuestInitrd, Interactive, Output, QUIET, TestResult, case, ensure};

pub(super) fn all() -> Vec<Case> {
    let host = HostSpec::default;
    let narrow = || host().aw_bits(39);
    vec![
        case("topology/more than bus 0 holds is refused", host(), too_many),
        case("topology/an NVMe behind a root port works", host(), behind_a_port),
        case("topology/functions of one device stay one device", extra::host(), one_device),
        case("topology/a device is plugged in and out, and again", host(), |ctx| plugged(ctx, "/dev/iommu")),
        case("long/a device is plugged in and out, 39 bits", narrow(), |ctx| plugged(ctx, "/dev/iommu")),
        case("long/a device is plugged in and out of a container", host(), container),
        case("topology/a device is plugged in and out of a container, 39 bits", narrow(), container),
        case("topology/the host takes a device back and the guest goes on", host(), taken_back),
        case("topology/a device that comes moves memory out of CMA", host().mostly_cma(), moves_memory),
        case("long/25 times two devices in and out under I/O", host().one_cpu(), |ctx| many_times(ctx, 25)),
        case("long/25 times two devices in and out under I/O, 39 bits", narrow().one_cpu(), |ctx| {
            many_times(ctx, 25)
        }),
        case("topology/a plugged device survives a reboot, one that was asked for does not", host(), reboots),
        case("topology/a guest that does not let go keeps its device", host(), keeps),
    ]
}

const SOCKET: &str = "/tmp/topology.sock";
const INITRD: &str = "/tmp/topology.cpio";
const READY: &str = "shell is ready";
/// The start of the drive, as the guest reads it.
const READ: u64 = 1 << 20;

/// What the guest does besides reading commands.
const ANSWERS_AT_ONCE: &str = "\
    cat /dev/kmsg | while read -r line; do case \"$line\" in *'): Button press: will power off'*)\n\
        slot=${line#*Slot(}; echo 0 > /sys/bus/pci/slots/${slot%%)*}/power;; esac; done &\n";
const READS_ALL_THE_TIME: &str = "\
    while :; do dd if=/dev/nvme0n1 of=/dev/null bs=64k iflag=direct 2>/dev/null || usleep 100000; done &\n";

/// What a guest knows of a slot that it does not let go of.
const SAYS_WHY: &str = "\
    dmesg | tail -n 40; cat /proc/interrupts; cat /proc/uptime; for p in /proc/[0-9]*; do \
    echo $(cut -d ' ' -f 1-3,39 $p/stat) $(cat $p/wchan); done; echo so it is\n";

/// Puts a guest into the host that does what its console says, a line at a time, and `besides`.
fn guest(ctx: &Ctx, besides: &str) -> TestResult {
    let script = format!(
        "stty -echo\n\
         appears() {{ until [ -e \"$1\" ]; do usleep 100000; done; }}\n\
         vanishes() {{ while [ -e \"$1\" ]; do usleep 100000; done; }}\n\
         read_start() {{ dd if=/dev/nvme0n1 of=/start bs=1M count=1 iflag=direct 2>/dev/null && [ -s /start ]; }}\n\
         sum() {{ until read_start; do usleep 100000; done; sha256sum /start; }}\n\
         {besides}\
         echo {READY}; while read -r line; do eval \"$line\"; done; poweroff -f"
    );
    ctx.put(INITRD, &GuestInitrd::with_script(ctx.artefacts, &script)?.build()?)
}

fn start<'a>(ctx: &'a Ctx, flags: &str, seconds: u64) -> TestResult<Interactive<'a>> {
    let quiet = if flags.contains("--cmdline") { "" } else { QUIET };
    let command = format!("vmm run {quiet} --api-socket {SOCKET} --memory 128M --initrd {INITRD} {flags}");
    let mut guest = ctx.run(&command).deadline(seconds).start()?;
    guest.wait_for(READY)?;
    Ok(guest)
}

fn ctl(ctx: &Ctx, arguments: &str) -> TestResult<Output> {
    ctx.run(&format!("vmm ctl -s {SOCKET} {arguments}")).expect_success()
}

/// What the machine has open.
fn descriptors(ctx: &Ctx) -> TestResult<Output> {
    ctx.run("ls -l /proc/$(pidof vmm)/fd").expect_success()
}

/// The guest reads from its drive what is on it.
fn reads_right(ctx: &Ctx, guest: &mut Interactive) -> TestResult {
    guest.send("appears /dev/nvme0n1; sum\n");
    guest.wait_for(&ctx.artefacts.disk.sha256(READ)?)?;
    Ok(())
}

fn ends_well(guest: Interactive) -> TestResult<Output> {
    guest.send(
        "dmesg | grep -E 'no space|an.t assign|ailed to assign|timed out|BUG|WARNING' || echo no complaints\n\
         poweroff -f\n",
    );
    let guest = guest.finish()?;
    ensure!(guest.status == 0, "it ended with status {}", guest.status);
    guest.stdout_contains("no complaints")?;
    Ok(guest)
}

fn too_many(ctx: &Ctx) -> TestResult {
    let refused = ctx.run(&format!("vmm run --pcie-ports 31 --vfio {NVME}")).expect_status(2)?;
    refused.stderr_contains(
        "error: 1 passed-through devices, 0 emulated ones and --pcie-ports 31 do not fit: PCI bus 0 has room for 31 in all",
    )?;
    let ports = ctx.run(&format!("vmm run {QUIET} --pcie-ports 31 --memory 128M")).expect_success()?;
    ports.stdout_contains("summary complete: 32 PCI devices")?;
    Ok(())
}

fn behind_a_port(ctx: &Ctx) -> TestResult {
    let command = format!("vmm run {QUIET} --vfio {NVME},port --vfio {NIC} --memory 256M --cpus 2");
    let guest = ctx.run(&command).expect_success()?;
    guest.stdout_contains("pci 0000:00:01.0 PCI bridge [060400], 1b36:000c, driver pcieport")?;
    guest.stdout_contains("pci 0000:01:00.0 NVMe controller [010802], 1b36:0010, driver nvme, ")?;
    guest.stdout_contains("pci 0000:00:02.0 Ethernet controller [020000], 8086:10d3, driver e1000e, ")?;
    let sum = ctx.artefacts.disk.sha256(8 << 20)?;
    guest.stdout_contains(&format!("read 8 MiB from /dev/nvme0n1, sha256 {sum}"))?;
    Ok(())
}

fn one_device(ctx: &Ctx) -> TestResult {
    extra::bind(ctx, &FUNCTIONS)?;
    let [first, second] = FUNCTIONS;
    let guest =
        ctx.run(&format!("vmm run {QUIET} --memory 128M --vfio {second} --vfio {first}")).expect_success()?;
    for function in 0..2 {
        guest
            .stdout_contains(&format!("pci 0000:00:01.{function} Ethernet controller [020000], 8086:10d3"))?;
    }
    let guest = ctx.run(&format!("vmm run {QUIET} --memory 128M --vfio {second},port")).expect_success()?;
    guest.stdout_contains("pci 0000:01:00.0 Ethernet controller [020000], 8086:10d3")?;
    Ok(())
}

fn container(ctx: &Ctx) -> TestResult {
    // So that there is nothing else.
    ctx.run("mv /dev/iommu /dev/iommu.away").expect_success()?;
    let plugged = plugged(ctx, "/dev/vfio/vfio");
    ctx.run("mv /dev/iommu.away /dev/iommu").expect_success()?;
    plugged
}

/// `node` is where the kernel's interface to the IOMMU is reached.
fn plugged(ctx: &Ctx, node: &str) -> TestResult {
    guest(ctx, "")?;
    let (acquired, released) = pins(ctx)?;
    let held = acquired - released;
    let mut guest = start(ctx, "--pcie-ports 1 --cpus 2", 300)?;
    ctx.run(&format!("vmm ctl -s {SOCKET} remove-device {NVME}")).expect_status(2)?;
    for round in 0..2 {
        ctl(ctx, &format!("add-device {NVME} --id disk"))?
            .stdout_contains("disk is 0000:01:00.0 in the guest")?;
        reads_right(ctx, &mut guest)?;
        ctl(ctx, "info")?.stdout_contains(&format!("disk: {NVME}, 0000:01:00.0 in the guest"))?;
        let full = ctx.run(&format!("vmm ctl -s {SOCKET} add-device {NIC}")).expect_status(1)?;
        full.stderr_contains("no root port of the machine is free")?;
        ctx.run(&format!("vmm ctl -s {SOCKET} add-device {NVME}")).expect_status(2)?;
        descriptors(ctx)?.stdout_contains(node)?;
        let (acquired, released) = pins(ctx)?;
        ensure!(acquired - released > held, "round {round}: nothing is pinned");
        // As a person at the machine would: the guest takes 5 seconds for a second thought.
        ctl(ctx, "remove-device disk")?;
        descriptors(ctx)?.stdout_lacks(node)?;
        let (acquired, released) = pins(ctx)?;
        ensure!(
            acquired - released == held,
            "round {round}: {} pages stay pinned",
            acquired - released - held
        );
        guest.send("vanishes /dev/nvme0n1; echo it is gone\n");
        guest.wait_for("it is gone")?;
        // The host can have it at once.
        ctx.run(&format!("vmm check --pin --memory 64M --vfio {NVME}")).expect_success()?;
    }
    let guest = ends_well(guest)?;
    guest.stderr_contains(&format!("pinned 128 MiB for {NVME}: 32768 pages, found "))?;
    guest.stderr_contains(", now 0 in CMA, 0 in ZONE_MOVABLE, ")?;
    guest.stderr_contains(&format!("vmm: {NVME} is plugged in, the guest sees it at 0000:01:00.0"))?;
    guest.stderr_contains(&format!("vmm: {NVME} is unplugged and the host's again"))?;
    Ok(())
}

fn taken_back(ctx: &Ctx) -> TestResult {
    guest(ctx, ANSWERS_AT_ONCE)?;
    let mut guest = start(ctx, &format!("--vfio {NVME},port --vfio {NIC}"), 300)?;
    reads_right(ctx, &mut guest)?;
    // Returns when the device is free.
    ctx.run(&format!("echo {NVME} > /sys/bus/pci/drivers/vfio-pci/unbind")).expect_success()?;
    guest.send("vanishes /dev/nvme0n1; ls /sys/class/net; echo it is gone\n");
    guest.wait_for("eth0")?;
    guest.wait_for("it is gone")?;
    let guest = ends_well(guest)?;
    guest.stderr_contains(&format!("vmm: {NVME} is unplugged and the host's again"))?;
    ctx.run(&format!("echo {NVME} > /sys/bus/pci/drivers_probe")).expect_success()?;
    Ok(())
}

fn moves_memory(ctx: &Ctx) -> TestResult {
    // The guest has written to all of its memory, most of which then lies in CMA.
    guest(
        ctx,
        "mount -t tmpfs -o size=96M tmpfs /tmp; head -c 4M /dev/urandom > /tmp/kept; head -c 36M /dev/zero > /tmp/fill\n\
         md5sum /tmp/kept > /sum\n",
    )?;
    let mut guest = start(ctx, "--pcie-ports 1", 300)?;
    ctl(ctx, &format!("add-device {NVME}"))?;
    reads_right(ctx, &mut guest)?;
    guest.send("md5sum -c /sum && echo as it was || poweroff -f\n");
    guest.wait_for("as it was")?;
    let guest = ends_well(guest)?;
    let line = guest.stderr.lines().find(|line| line.starts_with("pinned 128 MiB")).unwrap_or_default();
    ensure!(line.contains(", now 0 in CMA, 0 in ZONE_MOVABLE, "), "it says {line:?}");
    ensure!(!line.contains("32768 pages, found 0 in CMA"), "nothing was in CMA: {line:?}");
    ensure!(!line.contains(", 0 migrated, "), "nothing had to be moved: {line:?}");
    Ok(())
}

fn many_times(ctx: &Ctx, rounds: u32) -> TestResult {
    guest(ctx, &[ANSWERS_AT_ONCE, READS_ALL_THE_TIME].concat())?;
    let (acquired, released) = pins(ctx)?;
    let held = acquired - released;
    let mut guest = start(ctx, "--pcie-ports 2 --cpus 2", 150 + 30 * u64::from(rounds))?;
    for _ in 0..rounds {
        ctl(ctx, &format!("add-device {NVME}"))?;
        ctl(ctx, &format!("add-device {NIC}"))?;
        reads_right(ctx, &mut guest)?;
        guest.send("appears /sys/class/net/eth0; ip link set eth0 up; echo it is up\n");
        guest.wait_for("it is up")?;
        // Both at once, the drive while it is being read.
        let both = format!(
            "vmm ctl -s {SOCKET} remove-device {NVME} & vmm ctl -s {SOCKET} remove-device {NIC} && wait $!"
        );
        let removed = ctx.run(&both).output()?;
        if removed.status != 0 {
            guest.send(SAYS_WHY);
            guest.wait_for("so it is")?;
        }
        ensure!(removed.status == 0, "{}", removed.stderr);
        guest.send("vanishes /dev/nvme0n1; vanishes /sys/class/net/eth0; echo both are gone\n");
        guest.wait_for("both are gone")?;
    }
    let (acquired, released) = pins(ctx)?;
    ensure!(acquired - released == held, "{} pages stay pinned", acquired - released - held);
    let descriptors = descriptors(ctx)?;
    descriptors.stdout_lacks("/dev/vfio")?;
    descriptors.stdout_lacks("/dev/iommu")?;
    ends_well(guest)?;
    Ok(())
}

fn reboots(ctx: &Ctx) -> TestResult {
    guest(ctx, "")?;
    let mut guest = start(ctx, "--pcie-ports 2", 300)?;
    ctl(ctx, &format!("add-device {NVME}"))?;
    reads_right(ctx, &mut guest)?;
    guest.send("reboot -f\n");
    guest.wait_for(READY)?;
    reads_right(ctx, &mut guest)?;
    // The guest resets while it is asked: what it was asked for is gone when it comes back.
    let removal = ctx.run(&format!("vmm ctl -s {SOCKET} remove-device {NVME}")).start()?;
    guest.send("until dmesg | grep -q 'Button press'; do usleep 100000; done; reboot -f\n");
    guest.wait_for(READY)?;
    let removal = removal.finish()?;
    ensure!(removal.status == 0, "the removal ended with status {}", removal.status);
    guest.send("[ -e /dev/nvme0n1 ] || echo it is gone\n");
    guest.wait_for("it is gone")?;
    ends_well(guest)?;
    Ok(())
}

fn keeps(ctx: &Ctx) -> TestResult {
    guest(ctx, "")?;
    let command =
        format!("--vfio {NVME},port --vfio {NIC} --cmdline 'console=ttyS0 quiet pcie_ports=compat'");
    let mut guest = start(ctx, &command, 300)?;
    let refused = ctx.run(&format!("vmm ctl -s {SOCKET} remove-device {NIC}")).output()?;
    refused.stderr_contains("it is on the guest's bus 0, where nothing comes or goes")?;
    let refused = ctx.run(&format!("vmm ctl -s {SOCKET} remove-device {NVME}")).output()?;
    ensure!(refused.status == 1, "it ended with status {}", refused.status);
    refused.stderr_contains(&format!(
        "the guest did not let go of {NVME} within 60 s: it does not listen to the slot"
    ))?;
    reads_right(ctx, &mut guest)?;
    ends_well(guest)?;
    Ok(())
}
