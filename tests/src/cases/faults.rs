//! Devices that fail while a guest has them: errors that PCIe reports, made by QEMU.

use crate::host::HostSpec;
use crate::suite::{Case, Ctx, QUIET, TestResult, case, ensure};

/// A NIC behind a root port, which is where errors are reported to.
const DEVICES: &str =
    "-device pcie-root-port,id=above,chassis=1,addr=0xe -device e1000e,id=failing,bus=above,romfile=";

pub(super) fn all() -> Vec<Case> {
    let host = || HostSpec::default().qemu(DEVICES);
    // Not part of a whole run, since it does not pass: QEMU takes the error, and the host's kernel hears nothing of it.
    vec![case("long/an uncorrectable error stops the guest and is named", host(), uncorrectable)]
}

fn uncorrectable(ctx: &Ctx) -> TestResult {
    let found =
        ctx.run("basename $(ls -d /sys/bus/pci/devices/0000:00:0e.0/0000:??:??.?)").expect_success()?;
    let nic = found.stdout.trim();
    ctx.run(&format!("vmm bind --group {nic}")).expect_success()?;
    let start = |backend: &str| {
        ctx.run(&format!("vmm run {QUIET} --memory 128M --vfio {nic},backend={backend}"))
            .deadline(240)
            .start()
    };
    for (backend, error, named) in
        [("iommufd", "COMP_TIME", "CmpltTO (non-fatal)"), ("container", "MALF_TLP", "MalfTLP (fatal)")]
    {
        let mut guest = start(backend)?;
        guest.wait_for("vmm> ")?;
        let injected = ctx.monitor(&format!("pcie_aer_inject_error failing {error}"))?;
        ensure!(injected.starts_with("OK"), "QEMU says {injected:?}");
        let guest = guest.finish()?;
        ensure!(guest.status == 3, "it ended with status {}", guest.status);
        guest.stderr_contains(&format!("error: {nic} reported an uncorrectable error: {named}\n"))?;
    }
    // The host has recovered, and so has the device.
    let mut guest = start("iommufd")?;
    guest.wait_for("vmm> ")?;
    guest.send("poweroff\n");
    let guest = guest.finish()?;
    ensure!(guest.status == 0, "it ended with status {}", guest.status);
    guest.stdout_contains("Ethernet controller [020000], 8086:10d3, driver e1000e, ")?;
    ctx.run(&format!("vmm unbind --group {nic}")).expect_success()?;
    Ok(())
}
