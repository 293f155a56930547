//! Real devices in guests: the NVMe drive is read through interrupts and DMA, the NIC reaches the network, again after
//! every reboot, with an IOMMU of 39 bits and of 48.

use crate::host::{HostSpec, NIC, NVME};
use crate::suite::{Case, Ctx, GuestInitrd, Output, QUIET, SAYS_READY, TestResult, case, ensure};

pub(super) fn all() -> Vec<Case> {
    let narrow = || HostSpec::default().aw_bits(39);
    // Here every page is mapped by itself, there most are huge.
    let wide = || HostSpec::default().aw_bits(48).small_pages();
    vec![
        case("passthrough/NVMe, 39 bits", narrow(), nvme),
        case("long/NVMe, 48 bits", wide(), nvme),
        case("passthrough/NVMe, 39 bits, memory above 4 GiB", narrow().memory(6144), nvme_above_4_gib),
        case("passthrough/NVMe in Debian's kernel", wide(), nvme_debian),
        case("long/NIC, 39 bits", narrow(), nic),
        case("passthrough/NIC, 48 bits", wide(), nic),
        case("long/two devices", narrow(), two_devices),
        case("passthrough/descriptors opened by a launcher serve a process without rights", wide(), handed),
        case("passthrough/2 reboots, the device works each time", narrow(), |ctx| reboots(ctx, 2)),
        case("passthrough/nothing stays behind", narrow(), nothing_stays),
        case("passthrough/a killed vmm leaves a device that works", narrow(), killed),
        case("passthrough/a device in use is said to be", narrow(), busy),
        case("passthrough/the host gets a device back at once", narrow(), wanted),
    ]
}

/// What the guest said of the drive is what is on it.
fn read_right(ctx: &Ctx, guest: &Output, address: &str) -> TestResult {
    guest.stdout_contains(&format!("pci {address} NVMe controller [010802], 1b36:0010, driver nvme, "))?;
    guest.stdout_contains(" MSI-X, ")?;
    guest.stdout_contains(&format!(
        "read 8 MiB from /dev/nvme0n1, sha256 {}",
        ctx.artefacts.disk.sha256(8 << 20)?
    ))?;
    Ok(())
}

/// The line that says where the pages are.
fn pinned_outside(guest: &Output, memory: &str, devices: &str, pages: u64) -> TestResult {
    guest.stderr_contains(&format!(
        "pinned {memory} for {devices}: {pages} pages, 0 in CMA, 0 in ZONE_MOVABLE, 0 migrated, "
    ))?;
    Ok(())
}

fn nvme(ctx: &Ctx) -> TestResult {
    for (cpus, backend) in [(1, "iommufd"), (2, "container")] {
        let command = format!("vmm -v run {QUIET} --memfd --vfio {NVME},backend={backend} --cpus {cpus}");
        let guest = ctx.run(&command).expect_success()?;
        reached_through(&guest, backend)?;
        guest.stdout_contains(&format!("cpus {cpus} online"))?;
        pinned_outside(&guest, "512 MiB", NVME, 131072)?;
        read_right(ctx, &guest, "0000:00:01.0")?;
    }
    Ok(())
}

fn nvme_above_4_gib(ctx: &Ctx) -> TestResult {
    let guest =
        ctx.run(&format!("vmm run {QUIET} --vfio {NVME} --memory 3200M")).deadline(300).expect_success()?;
    pinned_outside(&guest, "3200 MiB", NVME, 819200)?;
    read_right(ctx, &guest, "0000:00:01.0")
}

fn nvme_debian(ctx: &Ctx) -> TestResult {
    let release = &ctx.artefacts.debian.release;
    let command = format!("vmm run {QUIET} --kernel /boot/vmlinuz-{release} --vfio {NVME} --memory 256M");
    let guest = ctx.run(&command).deadline(300).expect_success()?;
    guest.stdout_contains(&format!("kernel {release} x86_64"))?;
    read_right(ctx, &guest, "0000:00:01.0")
}

fn nic(ctx: &Ctx) -> TestResult {
    let script = "\
        ip link set eth0 up && udhcpc -i eth0 -n -q -s /bin/true\n\
        ip addr add 10.0.2.15/24 dev eth0 && ping -c 3 -w 30 10.0.2.2\n\
        grep eth0 /proc/interrupts; poweroff -f";
    let initrd = GuestInitrd::with_script(ctx.artefacts, script)?;
    ctx.put("/tmp/guest.cpio", &initrd.build()?)?;
    for (cpus, backend) in [(1, "container"), (2, "iommufd")] {
        let command = format!(
            "vmm -v run {QUIET} --memfd --vfio {NIC},backend={backend} --cpus {cpus} --memory 128M --initrd /tmp/guest.cpio"
        );
        let guest = ctx.run(&command).expect_success()?;
        reached_through(&guest, backend)?;
        pinned_outside(&guest, "128 MiB", NIC, 32768)?;
        guest.stdout_contains("lease of 10.0.2.15 obtained")?;
        guest.stdout_contains("3 packets received")?;
        guest.stdout_contains("PCI-MSIX")?;
    }
    ctx.run("rm /tmp/guest.cpio").expect_success()?;
    Ok(())
}

/// Which of the kernel's interfaces it was.
fn reached_through(guest: &Output, backend: &str) -> TestResult {
    guest.stderr_contains(&format!("devices opened backend={backend} "))?;
    Ok(())
}

fn two_devices(ctx: &Ctx) -> TestResult {
    for (option, backend) in [("", "iommufd"), (",backend=container", "container")] {
        let command = format!("vmm -v run {QUIET} --vfio {NVME}{option} --vfio {NIC} --memory 256M");
        let guest = ctx.run(&command).expect_success()?;
        reached_through(&guest, backend)?;
        pinned_outside(&guest, "256 MiB", &format!("{NVME}, {NIC}"), 65536)?;
        read_right(ctx, &guest, "0000:00:01.0")?;
        guest.stdout_contains("pci 0000:00:02.0 Ethernet controller [020000], 8086:10d3, driver e1000e, ")?;
        let lost = guest.stderr.contains("other passed-through devices cannot reach this BAR");
        ensure!(!lost, "the devices cannot reach each other through {backend}");
    }
    Ok(())
}

/// A user without rights, whose memlock limit is the guest's memory: trial pins and maps count against it together.
fn handed(ctx: &Ctx) -> TestResult {
    let cdev = ctx
        .run(&format!("ls /sys/bus/pci/devices/{NVME}/vfio-dev"))
        .expect_success()?
        .stdout
        .trim()
        .to_owned();
    let become_somebody =
        "echo somebody:x:65534:65534::/:/bin/sh >> /etc/passwd; chmod 666 /dev/kvm; chmod 600 /dev/iommu";
    ctx.run(&format!("cp /etc/passwd /tmp/passwd; {become_somebody}")).expect_success()?;
    let somebody = |vmm: &str, descriptors: &str| {
        format!("ulimit -l 131072; exec su -s /bin/sh somebody -c 'exec {vmm}' {descriptors}")
    };
    let descriptors = format!("5<>/dev/vfio/devices/{cdev} 6<>/dev/iommu");
    let run = format!("vmm -v run {QUIET} --memory 128M --vfio fd=5 --iommufd fd=6");
    let guest = ctx.run(&somebody(&run, &descriptors)).expect_success()?;
    reached_through(&guest, "iommufd")?;
    guest.stderr_contains("pinned 128 MiB for 0000:00:01.0: 32768 pages, residency unknown: ")?;
    read_right(ctx, &guest, "0000:00:01.0")?;

    // What was not handed over is not to be had.
    let refused = ctx.run(&somebody("vmm run --vfio fd=5", &descriptors)).expect_status(3)?;
    refused.stderr_contains("error: no permission to open /dev/iommu, which belongs to uid 0")?;
    let group = ctx.run(&format!("basename $(readlink /sys/bus/pci/devices/{NVME}/iommu_group)"));
    let group = group.expect_success()?.stdout.trim().to_owned();
    for (arguments, descriptors, said) in [
        ("--vfio fd=5", "5<&-".to_owned(), "file descriptor 5 is not open".to_owned()),
        ("--vfio fd=0", String::new(), "file descriptor 0 is a standard one".to_owned()),
        (
            "--vfio fd=5",
            "5<>/dev/null".to_owned(),
            "file descriptor 5 is /dev/null, not a node in".to_owned(),
        ),
        (
            "--vfio fd=5",
            format!("5<>/dev/vfio/{group}"),
            format!("file descriptor 5 is /dev/vfio/{group}, not a node in /dev/vfio/devices"),
        ),
        (
            "--vfio fd=5",
            format!("5</dev/vfio/devices/{cdev}"),
            format!("file descriptor 5 (/dev/vfio/devices/{cdev}) is not open for reading and writing"),
        ),
        (
            "--vfio fd=5 --iommufd fd=6",
            format!("5<>/dev/vfio/devices/{cdev} 6<>/dev/vfio/vfio"),
            "file descriptor 6 is /dev/vfio/vfio, not /dev/iommu".to_owned(),
        ),
        (
            "--vfio fd=5 --vfio fd=5",
            format!("5<>/dev/vfio/devices/{cdev}"),
            "file descriptor 5 is given twice".to_owned(),
        ),
        (
            "--vfio fd=5,backend=container",
            format!("5<>/dev/vfio/devices/{cdev}"),
            "0000:00:01.0 asks for a container, the descriptor of 0000:00:01.0 for iommufd".to_owned(),
        ),
    ] {
        let refused = ctx.run(&format!("vmm run {arguments} {descriptors}")).expect_status(2)?;
        refused.stderr_contains(&format!("error: {said}"))?.stderr_contains(" help: ")?;
    }
    ctx.run("mv /tmp/passwd /etc/passwd; chmod 600 /dev/kvm").expect_success()?;
    Ok(())
}

fn reboots(ctx: &Ctx, times: usize) -> TestResult {
    let mut guest = ctx.run(&format!("vmm run {QUIET} --vfio {NVME} --memory 128M")).deadline(400).start()?;
    let right = format!("sha256 {}", ctx.artefacts.disk.sha256(8 << 20)?);
    for _ in 0..times {
        guest.wait_for(&right)?;
        guest.wait_for("vmm> ")?;
        guest.send("reboot\n");
    }
    guest.wait_for(&right)?;
    guest.wait_for("vmm> ")?;
    guest.send("poweroff\n");
    let guest = guest.finish()?;
    ensure!(guest.status == 0, "it ended with status {}", guest.status);
    ensure!(guest.stderr.matches("the guest reboots").count() == times, "it did not reboot so often");
    Ok(())
}

/// Pages pinned and given back, host-wide.
pub(super) fn pins(ctx: &Ctx) -> TestResult<(u64, u64)> {
    // Each CPU counts for itself for up to a second before the sum is right, unless it is told to hand in what it has.
    let text =
        ctx.run("echo 1 > /proc/sys/vm/stat_refresh; grep nr_foll_pin /proc/vmstat").expect_success()?.stdout;
    let count = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_default().trim().parse::<u64>()
    };
    Ok((count("nr_foll_pin_acquired")?, count("nr_foll_pin_released")?))
}

fn nothing_stays(ctx: &Ctx) -> TestResult {
    // Whatever held pins before.
    let (acquired, released) = pins(ctx)?;
    let held = acquired - released;
    for command in [
        format!("vmm run {QUIET} --vfio {NVME} --memory 256M"),
        format!("vmm check --pin --vfio {NVME},backend=container --memory 256M"),
    ] {
        ctx.run(&command).expect_success()?;
        let (acquired, released) = pins(ctx)?;
        ensure!(acquired - released == held, "{} pages stay pinned", acquired - released - held);
    }
    ctx.run("pidof vmm").expect_status(1)?;
    ctx.run(&format!("readlink /sys/bus/pci/devices/{NVME}/driver"))
        .expect_success()?
        .stdout_contains("vfio-pci")?;
    Ok(())
}

fn killed(ctx: &Ctx) -> TestResult {
    let (acquired, released) = pins(ctx)?;
    let held = acquired - released;
    for backend in ["iommufd", "container"] {
        let command = format!("exec vmm run {QUIET} --vfio {NVME},backend={backend} --memory 128M");
        let mut guest = ctx.run(&command).start()?;
        guest.wait_for("vmm> ")?;
        guest.kill()?;
        let (acquired, released) = pins(ctx)?;
        ensure!(acquired - released == held, "{} pages stay pinned", acquired - released - held);
    }
    let guest = ctx.run(&format!("vmm run {QUIET} --vfio {NVME} --memory 256M")).expect_success()?;
    read_right(ctx, &guest, "0000:00:01.0")
}

fn busy(ctx: &Ctx) -> TestResult {
    let tiny = ctx.tiny(&SAYS_READY)?;
    let mut first = ctx.run(&format!("vmm run {tiny} --vfio {NVME} --memory 64M --grace 0")).start()?;
    first.wait_for("ready")?;
    for option in ["", ",backend=iommufd", ",backend=container"] {
        let second = ctx.run(&format!("vmm run --vfio {NVME}{option} --memory 128M")).expect_status(3)?;
        second.stderr_contains("in use by vmm (pid ")?;
    }
    // Where the group cannot be looked at, it comes out when the device is opened.
    let blind = format!(
        "group=/dev/vfio/$(basename $(readlink /sys/bus/pci/devices/{NVME}/iommu_group)); mv $group /dev/away
         vmm check --pin --vfio {NVME} --memory 64M; s=$?; mv /dev/away $group; exit $s"
    );
    ctx.run(&blind).expect_status(3)?.stderr_contains("error: 0000:00:01.0 is in use by vmm (pid ")?;
    ctx.run("kill -TERM $(pidof vmm)").expect_success()?;
    let first = first.finish()?;
    ensure!(first.status == 0, "the first ended with status {}", first.status);
    Ok(())
}

fn wanted(ctx: &Ctx) -> TestResult {
    let mut guest = ctx.run(&format!("vmm run {QUIET} --vfio {NVME} --memory 128M")).start()?;
    guest.wait_for("vmm> ")?;
    // Returns when the device is closed.
    ctx.run(&format!("echo {NVME} > /sys/bus/pci/drivers/vfio-pci/unbind")).expect_success()?;
    let guest = guest.finish()?;
    ensure!(guest.status == 3, "it ended with status {}", guest.status);
    guest.stderr_contains(&format!("error: the host wants {NVME} back\n   help: the guest was stopped"))?;
    ctx.run(&format!("echo {NVME} > /sys/bus/pci/drivers_probe")).expect_success()?;
    let guest = ctx.run(&format!("vmm run {QUIET} --vfio {NVME} --memory 128M")).expect_success()?;
    read_right(ctx, &guest, "0000:00:01.0")
}
