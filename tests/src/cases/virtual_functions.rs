//! Virtual functions of an SR-IOV NIC, made by the host's driver of the physical one.

use super::interrupts::PING;
use crate::host::HostSpec;
use crate::suite::{Case, Ctx, GuestInitrd, QUIET, TestResult, case, ensure};

/// An Intel 82576, and the first two functions that it can have.
const PHYSICAL: &str = "0000:00:0b.0";
const FIRST: &str = "0000:00:1b.0";
const SECOND: &str = "0000:00:1b.2";

pub(super) fn all() -> Vec<Case> {
    // QEMU 10.0 takes the BARs of virtual functions for 32-bit ones, so the window above 4 GiB is taken away.
    let host = HostSpec::default()
        .append("memmap=32G$0xc000000000")
        .qemu("-netdev user,id=sriov -device igb,netdev=sriov,addr=0xb");
    vec![case("virtual functions/two of a NIC, which the host goes on using", host, both)]
}

fn both(ctx: &Ctx) -> TestResult {
    let make = format!(
        "cd /sys/bus/pci/devices/{PHYSICAL}; nic=$(ls net); ip link set $nic up
         until [ $(cat net/$nic/carrier) = 1 ]; do usleep 50000; done; echo 2 > sriov_numvfs; echo $nic"
    );
    let nic = ctx.run(&make).expect_success()?.stdout.trim().to_owned();
    let table = ctx.run("vmm devices").expect_success()?;
    for function in [FIRST, SECOND] {
        let row = table.line_with(function)?;
        ensure!(row.contains("8086:10ca") && row.ends_with("after vmm bind"), "{row}");
    }
    ctx.run(&format!("vmm bind {FIRST} {SECOND}")).expect_success()?;
    let script = format!(
        "for d in /sys/bus/pci/devices/*; do echo $d is $(cat $d/vendor $d/device); done
         {PING}; ip addr flush dev eth0; ip link set eth0 down
         {}; grep eth /proc/interrupts; read what; reboot -f",
        PING.replace("eth0", "eth1")
    );
    ctx.put("/tmp/guest.cpio", &GuestInitrd::with_script(ctx.artefacts, &script)?.build()?)?;
    let run =
        format!("vmm run {QUIET} --memory 128M --initrd /tmp/guest.cpio --vfio {FIRST} --vfio {SECOND}");
    let mut guest = ctx.run(&run).deadline(300).start()?;
    for boot in 0..2 {
        guest.wait_for("0000:00:01.0 is 0x8086 0x10ca")?;
        guest.wait_for("0000:00:01.2 is 0x8086 0x10ca")?;
        guest.wait_for("5 packets received")?;
        guest.wait_for("5 packets received")?;
        let interrupts = guest.wait_for("eth1-rx-0")?;
        ensure!(interrupts.contains("PCI-MSIX-"), "not MSI-X: {interrupts}");
        if boot == 0 {
            guest.send("again\n");
        }
    }
    guest.kill()?;
    // The physical function is the host's all the while.
    ctx.run(&format!("cat /sys/class/net/{nic}/carrier")).expect_success()?.stdout_contains("1")?;
    ctx.run(&format!("vmm unbind {FIRST} {SECOND}"))
        .expect_success()?
        .stdout_contains(&format!("{FIRST}: igbvf (was vfio-pci)"))?;
    let undo = format!("echo 0 > /sys/bus/pci/devices/{PHYSICAL}/sriov_numvfs; ip link set {nic} down");
    ctx.run(&format!("{undo}; rm /tmp/guest.cpio")).expect_success()?;
    Ok(())
}
