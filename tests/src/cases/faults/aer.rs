//! Devices that fail while a guest has them: errors that PCIe reports, made by QEMU.

use super::super::extra::{self, ROOT_PORT};
use crate::suite::{Case, Ctx, QUIET, SAYS_READY, TestResult, case, ensure};

pub(super) fn all() -> Vec<Case> {
    vec![case("faults/an uncorrectable error stops the guest and is named", extra::host(), uncorrectable)]
}

fn uncorrectable(ctx: &Ctx) -> TestResult {
    // Behind a root port, which is where errors are reported to.
    let found = ctx
        .run(&format!("basename $(ls -d /sys/bus/pci/devices/{ROOT_PORT}/0000:??:??.?)"))
        .expect_success()?;
    let device = found.stdout.trim();
    ctx.run(&format!("vmm bind --group {device}")).expect_success()?;
    let tiny = ctx.tiny(&SAYS_READY)?;
    let start = |guest: &str, backend: &str| {
        ctx.run(&format!("vmm run {guest} --memory 128M --vfio {device},backend={backend}"))
            .deadline(240)
            .start()
    };
    // After a fatal error the host does not read from the device which one it was (drivers/pci/pcie/aer.c, "Inaccessible").
    let errors = [("iommufd", "COMP_TIME", ": CmpltTO (non-fatal)"), ("container", "MALF_TLP", "")];
    for (backend, error, named) in errors {
        let mut guest = start(tiny, backend)?;
        guest.wait_for("ready")?;
        let injected = ctx.monitor(&format!("pcie_aer_inject_error failing {error}"))?;
        ensure!(injected.starts_with("OK"), "QEMU says {injected:?}");
        let guest = guest.finish()?;
        ensure!(guest.status == 3, "it ended with status {}", guest.status);
        guest.stderr_contains(&format!("error: {device} reported an uncorrectable error{named}\n"))?;
    }
    // The host has recovered, and so has the device.
    let mut guest = start(QUIET, "iommufd")?;
    guest.wait_for("vmm> ")?;
    guest.send("poweroff\n");
    let guest = guest.finish()?;
    ensure!(guest.status == 0, "it ended with status {}", guest.status);
    guest.stdout_contains("1af4:1044, driver virtio-pci, ")?;
    ctx.run(&format!("vmm unbind --group {device}")).expect_success()?;
    Ok(())
}
