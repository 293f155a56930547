//! Interrupts of passed-through devices: level-triggered lines, MSI and MSI-X, each with drivers that need them.

use super::extra::{self, AHCI, DISPLAY, E1000, EDU, IGB, MANY, MEMORY, MSI_XHCI, OPENS, TESTDEV, XHCI};
use crate::host::{HostSpec, NIC, NVME};
use crate::suite::{Case, Ctx, QUIET, TestResult, case, ensure};

pub(super) fn all() -> Vec<Case> {
    let host = HostSpec::default;
    vec![
        case("interrupts/INTx of a drive, over a reboot", host(), intx_of_a_drive),
        case("long/INTx of two devices, moved between CPUs", host(), intx_of_two),
        case("interrupts/MSI of a disk controller", extra::host(), msi),
        case("interrupts/MSI with eight vectors of 16", extra::host(), several_msis),
        case("interrupts/the host has as many vectors as the guest uses", extra::host(), lazy_vectors),
        case("interrupts/INTx of a conventional device", extra::host(), conventional),
        case("interrupts/INTx of nine devices, two on one line", extra::host(), shared_line),
        case("interrupts/MSI-X of a USB controller", extra::host(), usb),
        case("interrupts/MSI-X of an SR-IOV NIC", extra::host(), physical_function),
        case("interrupts/edu: registers, DMA, INTx and MSI to the bit", extra::host(), edu),
    ]
}

/// The lines of the host's devices, whatever type they are of.
const HOST_IRQS: &str = "grep -c vfio- /proc/interrupts";

fn intx_of_a_drive(ctx: &Ctx) -> TestResult {
    let command = format!("vmm run --vfio {NVME} --memory 128M --cmdline 'console=ttyS0 quiet pci=nomsi'");
    let mut guest = ctx.run(&command).deadline(400).start()?;
    let right = format!("sha256 {}", ctx.artefacts.disk.sha256(8 << 20)?);
    for end in ["reboot\n", "poweroff\n"] {
        let line = guest.wait_for(&right)?;
        ensure!(line.contains("driver nvme, legacy irq "), "it does not use its line");
        guest.wait_for("vmm> ")?;
        ctx.run("grep vfio-intx /proc/interrupts").expect_success()?;
        guest.send(end);
    }
    let guest = guest.finish()?;
    ensure!(guest.status == 0, "it ended with status {}", guest.status);
    ctx.run(HOST_IRQS).expect_status(1)?;
    Ok(())
}

/// Pings the gateway.
pub(super) const PING: &str =
    "ip link set eth0 up; ip addr add 10.0.2.15/24 dev eth0; ping -c 5 -w 60 10.0.2.2";

fn intx_of_two(ctx: &Ctx) -> TestResult {
    let script = format!(
        r#"
        move() {{ while :; do for cpu in 1 2; do for irq in /proc/irq/[0-9]*; do
            [ ! -e $irq/nvme0q0 -a ! -e $irq/eth0 ] || echo $cpu > $irq/smp_affinity
        done; done; done; }}
        {PING} &
        move & moving=$!
        dd if=/dev/nvme0n1 bs=64k count=32 iflag=direct 2>/dev/null | sha256sum
        wait %1; kill $moving
        grep -E 'nvme|eth0' /proc/interrupts"#
    );
    let guest = extra::guest_of_two_cpus(ctx, &[NVME, NIC], "pci=nomsi", &script)?;
    guest.stdout_contains(&ctx.artefacts.disk.sha256(2 << 20)?)?;
    guest.stdout_contains("5 packets received")?;
    for device in ["nvme0q0", "eth0"] {
        let line = guest.line_with(&format!(" {device}"))?;
        ensure!(line.contains("IO-APIC") && line.contains("-fasteoi"), "not level-triggered: {line}");
        ensure!(count(line) >= 10, "few interrupts: {line}");
    }
    Ok(())
}

/// Waits for a disk of device `$1`, and prints the checksum of its first 2 MiB.
const CHECKSUM: &str = r#"
checksum() {
    until disk=$(ls -l /sys/block | grep "/$1/"); do :; done
    disk=/dev/${disk##*/}
    opens $disk
    dd if=$disk bs=16k count=128 iflag=direct | md5sum
}
"#;

/// What the host reads from a disk, with its own driver.
fn checksum_on_host(ctx: &Ctx, controller: &str) -> TestResult<String> {
    extra::give_back(ctx, controller)?;
    let read = ctx.run(&format!("{OPENS}{CHECKSUM} checksum {controller}")).deadline(60).expect_success()?;
    Ok(read.stdout.trim_end().to_owned())
}

/// How often the interrupts of a device came, on either CPU.
fn count(line: &str) -> u64 {
    line.split_whitespace().skip(1).take(2).flat_map(str::parse::<u64>).sum()
}

fn msi(ctx: &Ctx) -> TestResult {
    let right = checksum_on_host(ctx, AHCI)?;
    extra::bind(ctx, &[AHCI])?;
    let script = format!("{OPENS}{CHECKSUM} checksum 0000:00:01.0; grep ahci /proc/interrupts");
    let guest = extra::guest(ctx, &[AHCI], "", &script)?;
    guest.stdout_contains(&right)?;
    let line = guest.line_with(" ahci[")?;
    ensure!(line.contains("PCI-MSI-") && !line.contains("PCI-MSIX-"), "not MSI: {line}");
    ensure!(count(line) >= 100, "few interrupts: {line}");
    Ok(())
}

/// Linux has several MSIs of a function only behind an interrupt remapping that guests have not got, so the script is the
/// driver: 64-bit, vectors from 0xd0 on, of which Linux says that it knows none of them.
fn several_msis(ctx: &Ctx) -> TestResult {
    extra::bind(ctx, &[MSI_XHCI])?;
    let script = r#"
        d=0000:00:01.0; echo 1 > /sys/bus/pci/devices/$d/enable; setconf $d 4 6
        setconf $d 0x74 0xfee00000; setconf $d 0x78 0; setconf $d 0x7c 0xd0
        setconf $d 0x70 $(($(conf $d 0x70) | 0x310000)); echo "MSI $(conf $d 0x70)"
        read what; dmesg | grep -o 'No irq handler for .*'
        setconf $d 0x70 $(($(conf $d 0x70) & ~0x10000)); echo off
        read what"#;
    let mut guest = extra::start(ctx, &[MSI_XHCI], "initcall_blacklist=xhci_pci_init", script)?;
    let line = guest.wait_for("MSI 0x")?;
    let control = guest.wait_for("\n")?;
    ensure!(control.starts_with("00b9"), "eight vectors of 16 are not on: {line}{control}");
    let vectors = "grep -c 'vfio-msi.[0-7].(0000:00:0c.0)' /proc/interrupts";
    ctx.run(vectors).expect_success()?.stdout_contains("8\n")?;
    let raise = ctx.program("raise")?;
    ctx.run(&format!("{raise} msi $(pidof vmm) 8")).expect_success()?.stdout_contains("raised 8")?;
    guest.send("raised\n");
    let said = guest.wait_for("off")?;
    for vector in 0xd0..0xd8 {
        ensure!(said.contains(&format!("No irq handler for 0.{vector}")), "{vector} did not come: {said}");
    }
    ctx.run(vectors).expect_status(1)?;
    guest.send("end\n");
    let guest = guest.finish()?;
    ensure!(guest.status == 0, "it ended with status {}", guest.status);
    Ok(())
}

fn usb(ctx: &Ctx) -> TestResult {
    let right = checksum_on_host(ctx, XHCI)?;
    extra::bind(ctx, &[XHCI])?;
    let script = format!(
        r#"{OPENS}{CHECKSUM} checksum 0000:00:01.0
        dd if=/dev/urandom of=/new bs=64k count=16 2>/dev/null
        dd if=/new of=$disk bs=64k seek=32 oflag=direct conv=fsync 2>/dev/null
        dd if=$disk bs=64k skip=32 count=16 iflag=direct 2>/dev/null | cmp - /new && echo written and read
        grep xhci /proc/interrupts"#
    );
    let guest = extra::guest(ctx, &[XHCI], "", &script)?;
    guest.stdout_contains(&right)?;
    guest.stdout_contains("written and read")?;
    let line = guest.line_with(" xhci_hcd")?;
    ensure!(line.contains("PCI-MSIX-"), "not MSI-X: {line}");
    ensure!(count(line) >= 100, "few interrupts: {line}");
    Ok(())
}

/// That it could have virtual functions is hidden: they are the host's to make.
fn physical_function(ctx: &Ctx) -> TestResult {
    extra::bind(ctx, &[IGB])?;
    let sriov = "echo \"virtual functions: $(ls /sys/bus/pci/devices/0000:00:01.0/ | grep -c sriov)\"";
    let script = format!("{PING}; grep eth0 /proc/interrupts; {sriov}");
    let guest = extra::guest(ctx, &[IGB], "", &script)?;
    guest.stdout_contains("5 packets received")?;
    guest.stdout_contains("virtual functions: 0")?;
    let line = guest.line_with(" eth0-")?;
    ensure!(line.contains("PCI-MSIX-"), "not MSI-X: {line}");
    Ok(())
}

/// The drive and edu, eight slots apart. Nobody in the guest knows edu, so that its interrupt comes again and again
/// until it is acknowledged, and the drive's driver is asked each time.
fn shared_line(ctx: &Ctx) -> TestResult {
    let devices = [NVME, NIC, E1000, MEMORY, TESTDEV, DISPLAY, AHCI, XHCI, EDU];
    extra::bind(ctx, devices.get(2..).unwrap_or_default())?;
    // A line that stays asserted takes all of the CPU that it interrupts, so this one does without it.
    let script = r#"
        for irq in /proc/irq/[0-9]*/smp_affinity; do echo 1 > $irq; done 2>/dev/null; taskset -p 2 $$
        edu=0000:00:09.0; echo 1 > /sys/bus/pci/devices/$edu/enable; b=$(bar $edu 0)
        checksum() { dd if=/dev/nvme0n1 bs=32k count=32 iflag=direct 2>/dev/null | sha256sum; }
        came() { awk '/nvme0q0/ { print $2 + $3 }' /proc/interrupts; }
        echo "before $(checksum)"; grep nvme0q0 /proc/interrupts
        setconf $edu 4 6
        first=$(came); mem $b 0x60 1; until [ $(came) -gt $((first + 3)) ]; do :; done
        mem $b 0x64 1; first=$(came); mem $b 0 0 > /dev/null; mem $b 0x24 > /dev/null
        [ $(came) -le $((first + 1)) ] && echo quiet
        echo "after $(checksum)""#;
    let guest = extra::guest_of_two_cpus(ctx, &devices, "pci=nomsi", script)?;
    let right = ctx.artefacts.disk.sha256(1 << 20)?;
    guest.stdout_contains(&format!("before {right}"))?;
    guest.stdout_contains("quiet")?;
    guest.stdout_contains(&format!("after {right}"))?;
    Ok(())
}

fn lazy_vectors(ctx: &Ctx) -> TestResult {
    extra::bind(ctx, &[MANY])?;
    let mut guest = ctx.run(&format!("vmm run {QUIET} --vfio {MANY} --memory 128M")).start()?;
    let line = guest.wait_for(" MSI-X, ")?;
    guest.wait_for("vmm> ")?;
    let count = line.trim_end_matches(" MSI-X, ").rsplit(' ').next().unwrap_or_default();
    ctx.run(HOST_IRQS).expect_success()?.stdout_contains(&format!("{count}\n"))?;
    guest.send("poweroff\n");
    let guest = guest.finish()?;
    ensure!(guest.status == 0, "it ended with status {}", guest.status);
    ensure!(count.parse::<u32>()? <= 3, "the guest uses {count} vectors");
    Ok(())
}

fn conventional(ctx: &Ctx) -> TestResult {
    extra::bind(ctx, &[E1000])?;
    let guest = extra::guest(ctx, &[E1000], "", &format!("{PING}; grep eth0 /proc/interrupts"))?;
    guest.stdout_contains("5 packets received")?;
    let line = guest.line_with(" eth0")?;
    ensure!(line.contains("IO-APIC") && line.contains("-fasteoi"), "not level-triggered: {line}");
    Ok(())
}

fn edu(ctx: &Ctx) -> TestResult {
    extra::bind(ctx, &[EDU])?;
    let script = r#"
        d=0000:00:01.0; echo 1 > /sys/bus/pci/devices/$d/enable; b=$(bar $d 0)
        say() { echo "$1 $(mem $b $2)"; }
        say identification 0
        mem $b 4 0x12345678; say inverted 4
        mem $b 8 10; while [ $(($(mem $b 0x20) & 1)) != 0 ]; do :; done; say factorial 8

        # INTx: the line's state shows in the status register, also while the guest keeps it from being raised.
        setconf $d 4 0x406
        mem $b 0x60 5; say raised 0x24; echo "asserted $(conf $d 4)"
        mem $b 0x64 5; say acknowledged 0x24; echo "deasserted $(conf $d 4)"

        # DMA: from memory that is not the kernel's to the device and back to another place.
        ram=0x4000000
        for i in 0 1 2 3; do mem $ram $((4 * i)) $((0x5eed0000 + i)); done
        dma() { # from, to, bytes, command
            devmem $((b + 0x80)) 64 $1; devmem $((b + 0x88)) 64 $2
            devmem $((b + 0x90)) 64 $3; devmem $((b + 0x98)) 64 $4
            while [ $(($(mem $b 0x98) & 1)) != 0 ]; do :; done
        }
        dma $ram 0x40000 16 1
        dma 0x40000 $((ram + 0x100)) 16 3
        for i in 0 1 2 3; do echo "copied $(mem $ram $((0x100 + 4 * i)))"; done
        echo "behind $(mem $ram 0x110)"

        # MSI, 64-bit, to a vector for which Linux has no handler, which it says.
        setconf $d 0x44 0xfee00000; setconf $d 0x48 0; setconf $d 0x4c 0xd5; setconf $d 0x40 $(($(conf $d 0x40) | 0x10000))
        mem $b 0x60 1; mem $b 0x64 1
        until dmesg | grep 'No irq handler'; do :; done"#;
    let guest = extra::guest(ctx, &[EDU], "memmap=1M$0x4000000", script)?;
    for line in [
        "identification 0x010000ED",
        "inverted 0xEDCBA987",
        "factorial 0x00375F00",
        "raised 0x00000005",
        "asserted 0x00180406",
        "acknowledged 0x00000000",
        "deasserted 0x00100406",
        "copied 0x5EED0000",
        "copied 0x5EED0003",
        "behind 0x00000000",
    ] {
        guest.stdout_contains(line)?;
    }
    let complaint = guest.line_with("No irq handler")?;
    ensure!(complaint.contains("0.213"), "another vector than 0xd5 of CPU 0: {complaint}");
    Ok(())
}
