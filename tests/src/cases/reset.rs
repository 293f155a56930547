//! What a guest leaves in a device is not there for the next: devices that are reset by themselves, with their bus, not at
//! all, and one that does not come back.

use crate::host::{HostSpec, NIC, NVME};
use crate::suite::{
    Case, Ctx, GuestInitrd, Interactive, Output, POWERS_OFF, QUIET, TestResult, case, ensure,
};

/// Behind a bridge without ACS both are one group, and neither can be reset without the other. The second card is on the
/// root bus, which cannot be reset at all.
const DEVICES: &str = "-device pcie-pci-bridge,id=br,addr=5 -device e1000,bus=br,addr=1,romfile= \
                       -device edu,bus=br,addr=2 -device e1000,addr=6,romfile=";
/// On the root bus.
const ALONE: &str = "0000:00:06.0";

/// Base address 0 of the receive ring: nobody writes it while the interface is down.
const SCRIPT: &str = "\
    for d in /sys/bus/pci/devices/*; do [ $(cat $d/device) = 0x100e ] && nic=$d; done\n\
    echo 1 > $nic/enable; bar=$(cut -d ' ' -f 1 $nic/resource | head -1); register=$((bar + 0x2800))\n\
    echo \"found $(devmem $register 32)\"\n\
    devmem $register 32 0xdead0000\n\
    echo \"left $(devmem $register 32)\"\n\
    read what; [ \"$what\" = reboot ] && reboot -f\n\
    poweroff -f";

/// An NVMe controller is configured and enabled, by hand and with queues that nobody uses.
const FLR_SCRIPT: &str = "\
    for d in /sys/bus/pci/devices/*; do [ $(cat $d/class) = 0x010802 ] && nvme=$d; done\n\
    echo 1 > $nvme/enable; bar=$(cut -d ' ' -f 1 $nvme/resource | head -1)\n\
    echo \"found $(devmem $((bar + 0x14)) 32)\"\n\
    devmem $((bar + 0x24)) 32 0x1f001f\n\
    devmem $((bar + 0x28)) 64 0x1000000\n\
    devmem $((bar + 0x30)) 64 0x1001000\n\
    devmem $((bar + 0x14)) 32 0x460001\n\
    echo \"left $(devmem $((bar + 0x14)) 32)\"\n\
    read what; [ \"$what\" = reboot ] && reboot -f\n\
    poweroff -f";

pub(super) fn all() -> Vec<Case> {
    let host = || HostSpec::default().one_cpu().unbound().qemu(DEVICES);
    vec![
        case("reset/by itself: nothing is left for the next guest", host(), by_itself),
        case("reset/one that fails is said and marked", host(), fails),
        case("reset/with the bus: nothing is left for the next guest", host(), with_the_bus),
        case("reset/a device that cannot be reset is marked", host(), impossible),
        case("reset/others on the bus are named", host(), others),
        case("reset/a device that does not come back is named and marked", host(), gone),
    ]
}

/// The two that share a bus, bound.
fn bind_both(ctx: &Ctx) -> TestResult<(String, String)> {
    let bus = ctx.run("basename $(ls -d /sys/bus/pci/devices/0000:00:05.0/0000:*:01.0)").expect_success()?;
    let nic = bus.stdout.trim().to_owned();
    let edu = nic.replace(":01.0", ":02.0");
    ctx.run(&format!("vmm bind --group {nic}")).expect_success()?;
    Ok((nic, edu))
}

fn unbind(ctx: &Ctx, device: &str) -> TestResult {
    ctx.run(&format!("vmm unbind --group {device}")).expect_success()?;
    Ok(())
}

fn verdict(ctx: &Ctx, device: &str) -> TestResult<String> {
    let table = ctx.run("vmm devices").expect_success()?;
    Ok(table.line_with(device)?.rsplit("  ").next().unwrap_or_default().to_owned())
}

fn put_script(ctx: &Ctx, script: &str) -> TestResult {
    ctx.put("/tmp/guest.cpio", &GuestInitrd::with_script(ctx.artefacts, script)?.build()?)
}

/// A guest that shows what it finds in the card, and leaves something there.
fn start<'a>(ctx: &'a Ctx, devices: &str) -> TestResult<Interactive<'a>> {
    let mut guest = ctx
        .run(&format!("vmm run {QUIET} --initrd /tmp/guest.cpio --memory 128M {devices}"))
        .deadline(300)
        .start()?;
    guest.wait_for("left 0xDEAD0000")?;
    Ok(guest)
}

fn by_itself(ctx: &Ctx) -> TestResult {
    ctx.run(&format!("vmm bind {NVME} {NIC}")).expect_success()?;
    let methods =
        format!("cat /sys/bus/pci/devices/{NVME}/reset_method /sys/bus/pci/devices/{NIC}/reset_method");
    ctx.run(&methods).expect_success()?.stdout_contains("flr\npm\n")?;
    put_script(ctx, FLR_SCRIPT)?;
    let start = || start_drive(ctx, &format!("--vfio {NVME} --vfio {NIC}"));
    let killed = start()?.kill()?;
    killed.stdout_contains("found 0x00000000")?;
    let mut guest = start()?;
    guest.send("reboot\n");
    guest.wait_for("left 0x00460001")?;
    guest.send("poweroff\n");
    let guest = guest.finish()?;
    ensure!(guest.status == 0, "it ended with status {}", guest.status);
    ensure!(found(&guest) == ["found 0x00000000"; 2], "{:?}", found(&guest));
    ensure!(!guest.stderr.contains("reset"), "{}", guest.stderr);
    for device in [NVME, NIC] {
        ensure!(verdict(ctx, device)? == "ready", "{}", verdict(ctx, device)?);
    }
    ctx.run(&format!("vmm unbind {NVME} {NIC}")).expect_success()?;
    Ok(())
}

/// A guest that shows what it finds in the drive, and leaves something there; without the driver, which would configure the
/// controller before it is looked at.
fn start_drive<'a>(ctx: &'a Ctx, devices: &str) -> TestResult<Interactive<'a>> {
    let command = format!(
        "exec vmm run --initrd /tmp/guest.cpio --cmdline 'console=ttyS0 quiet initcall_blacklist=nvme_init' --memory 128M {devices}"
    );
    let mut guest = ctx.run(&command).deadline(300).start()?;
    guest.wait_for("left 0x00460001")?;
    Ok(guest)
}

fn fails(ctx: &Ctx) -> TestResult {
    ctx.run(&format!("vmm bind {NVME}")).expect_success()?;
    put_script(ctx, FLR_SCRIPT)?;
    let mut guest = start_drive(ctx, &format!("--vfio {NVME}"))?;
    let methods = format!("/sys/bus/pci/devices/{NVME}/reset_method");
    ctx.run(&format!("echo > {methods}")).expect_success()?;
    guest.send("reboot\n");
    guest.wait_for("found 0x00460001")?;
    guest.wait_for("left 0x00460001")?;
    guest.send("poweroff\n");
    let guest = guest.finish()?;
    guest.stderr_contains("the guest reboots with a device that was not reset")?;
    let marked = verdict(ctx, NVME)?;
    ctx.run(&format!("echo default > {methods}")).expect_success()?;
    ensure!(marked == "ready, but its last reset failed", "{marked}");
    // The next one works, and takes the mark back.
    let guest = start_drive(ctx, &format!("--vfio {NVME}"))?;
    guest.send("poweroff\n");
    guest.finish()?.stdout_contains("found 0x00000000")?;
    ensure!(verdict(ctx, NVME)? == "ready", "{}", verdict(ctx, NVME)?);
    ctx.run(&format!("vmm unbind {NVME}")).expect_success()?;
    Ok(())
}

/// What its guests found, one after the other.
fn found(guest: &Output) -> Vec<&str> {
    guest.stdout.lines().filter(|line| line.starts_with("found")).map(str::trim).collect()
}

fn with_the_bus(ctx: &Ctx) -> TestResult {
    let (nic, edu) = bind_both(ctx)?;
    put_script(ctx, SCRIPT)?;
    for backend in ["container", "iommufd"] {
        let mut guest = start(ctx, &format!("--vfio {nic},backend={backend} --vfio {edu}"))?;
        guest.send("reboot\n");
        guest.wait_for("left 0xDEAD0000")?;
        guest.send("poweroff\n");
        let guest = guest.finish()?;
        ensure!(guest.status == 0, "it ended with status {}", guest.status);
        ensure!(found(&guest) == ["found 0x00000000"; 2], "with {backend}: {:?}", found(&guest));
        ensure!(!guest.stderr.contains("reset"), "{}", guest.stderr);
        ensure!(verdict(ctx, &nic)? == "ready", "{}", verdict(ctx, &nic)?);
    }
    unbind(ctx, &nic)
}

fn impossible(ctx: &Ctx) -> TestResult {
    ctx.run(&format!("vmm bind {ALONE}")).expect_success()?;
    put_script(ctx, SCRIPT)?;
    let mut guest = start(ctx, &format!("--vfio {ALONE}"))?;
    guest.send("reboot\n");
    guest.wait_for("found 0xDEAD0000")?;
    guest.wait_for("left")?;
    guest.send("poweroff\n");
    let guest = guest.finish()?;
    guest.stderr_contains(&format!("{ALONE} cannot be reset, neither by itself nor with its bus"))?;
    let marked = verdict(ctx, ALONE)?;
    ensure!(marked == "ready, but it cannot be reset, and keeps what its last guest left", "{marked}");
    unbind(ctx, ALONE)?;
    ensure!(verdict(ctx, ALONE)? == "after vmm bind", "{}", verdict(ctx, ALONE)?);
    Ok(())
}

fn others(ctx: &Ctx) -> TestResult {
    let (nic, edu) = bind_both(ctx)?;
    let tiny = ctx.tiny(&POWERS_OFF)?;
    // Ours by its group, though not opened.
    let guest = ctx.run(&format!("vmm run {tiny} --memory 64M --vfio {edu}")).expect_success()?;
    ensure!(!guest.stderr.contains("cannot be reset"), "{}", guest.stderr);
    // Of the group, but with no driver that would let go of it.
    ctx.run(&format!("vmm unbind {nic} && echo {nic} > /sys/bus/pci/devices/{nic}/driver/unbind"))
        .expect_success()?;
    for (backend, said) in [
        ("iommufd", format!("{edu} cannot be reset without {nic}, which this machine does not have")),
        ("container", format!("cannot reset {edu} with its bus")),
    ] {
        let guest = ctx
            .run(&format!("vmm run {tiny} --memory 64M --vfio {edu},backend={backend}"))
            .expect_success()?;
        guest.stderr_contains(&said)?;
    }
    let marked = verdict(ctx, &edu)?;
    ensure!(marked.starts_with("ready, but it cannot be reset"), "{marked}");
    ctx.run(&format!("echo {nic} > /sys/bus/pci/drivers_probe")).expect_success()?;
    unbind(ctx, &edu)
}

fn gone(ctx: &Ctx) -> TestResult {
    let (nic, edu) = bind_both(ctx)?;
    put_script(ctx, SCRIPT)?;
    let guest = start(ctx, &format!("--vfio {nic} --vfio {edu}"))?;
    // A bridge that leads to another bus: nobody answers behind it.
    let buses = "/sys/bus/pci/devices/0000:00:05.0/config bs=1 count=2";
    ctx.run(&format!(
        "dd if={buses} skip=25 of=/tmp/buses; printf '\\377\\377' | dd of={buses} seek=25 conv=notrunc"
    ))
    .expect_success()?;
    guest.send("poweroff\n");
    let guest = guest.finish()?;
    for device in [&nic, &edu] {
        let named = guest
            .stderr
            .lines()
            .any(|line| line.contains("does not come back") && line.contains(device.as_str()));
        ensure!(named, "{device} is not named: {}", guest.stderr);
        ensure!(verdict(ctx, device)? == "no: it does not answer", "{}", verdict(ctx, device)?);
    }
    let refused = ctx.run(&format!("vmm run --vfio {nic}")).expect_status(3)?;
    refused.stderr_contains(&format!("error: {nic} does not answer"))?;
    ctx.run(&format!("dd if=/tmp/buses of={buses} seek=25 conv=notrunc; rm /tmp/buses")).expect_success()?;
    let marked = verdict(ctx, &nic)?;
    ensure!(marked == "ready, but it did not come back from a reset", "{marked}");
    // It has lost its addresses, and gets them anew.
    ctx.run(&format!(
        "for d in {nic} {edu}; do echo 1 > /sys/bus/pci/devices/$d/remove; done; echo 1 > /sys/bus/pci/rescan; \
         vmm bind --group {nic}"
    ))
    .expect_success()?;
    let guest = start(ctx, &format!("--vfio {nic} --vfio {edu}"))?;
    guest.send("poweroff\n");
    guest.finish()?.stdout_contains("found 0x00000000")?;
    ensure!(verdict(ctx, &nic)? == "ready", "{}", verdict(ctx, &nic)?);
    unbind(ctx, &nic)
}
