//! Virtio devices that come and go while the guest runs.

use super::{READY, SOCKET, ctl, machine, shell};
use crate::host::HostSpec;
use crate::suite::{Case, Ctx, TestResult, case, ensure};

/// An image in the host, of 4 MiB.
pub(super) const IMAGE: &str = "/tmp/plugged.img";

pub(super) fn all() -> Vec<Case> {
    vec![case("api/virtio devices come and go, in a sandbox", HostSpec::default(), come_and_go)]
}

/// Makes [`IMAGE`]; gives its checksum.
pub(super) fn image(ctx: &Ctx) -> TestResult<String> {
    let made = format!("dd if=/dev/urandom of={IMAGE} bs=1M count=4 2>/dev/null; sha256sum < {IMAGE}");
    let sum = ctx.run(&made).expect_success()?.stdout;
    Ok(sum.split_whitespace().next().unwrap_or_default().to_owned())
}

fn come_and_go(ctx: &Ctx) -> TestResult {
    shell(ctx)?;
    let sum = image(ctx)?;
    let mut guest = ctx.run(&machine("--pcie-ports 2 --sandbox on 2>&1")).deadline(240).start()?;
    guest.wait_for(READY)?;
    let refused = |arguments: &str| ctx.run(&format!("vmm ctl -s {SOCKET} {arguments}")).expect_status(1);
    let open = || ctx.run("ls -l /proc/$(pidof vmm)/fd").expect_success();
    // What fails leaves both ports free.
    refused("add-disk /tmp/none.img")?.stderr_contains("/tmp/none.img")?;
    ctl(ctx, &format!("add-disk {IMAGE} --id data"))?.stdout_contains("data is 0000:01:00.0 in the guest")?;
    // A disk can be opened a moment after its node is there.
    guest.send("until (: < /dev/vda) 2>/dev/null; do usleep 100000; done; sha256sum < /dev/vda\n");
    guest.wait_for(&sum)?;
    refused(&format!("add-disk {IMAGE}"))?.stderr_contains(IMAGE)?;
    ctl(ctx, "add-net plug0")?.stdout_contains("_net0 is 0000:02:00.0 in the guest")?;
    guest.send("until [ -e /sys/class/net/eth0 ]; do usleep 100000; done; echo the card is there\n");
    guest.wait_for("the card is there")?;
    refused("add-vsock /tmp/plugged.vsock 7")?.stderr_contains("no root port of the machine is free")?;
    ctl(ctx, "info")?.stdout_contains(&format!("data: {IMAGE}, 0000:01:00.0 in the guest"))?;
    // A guest that stands still cannot be asked.
    ctl(ctx, "pause")?;
    refused("remove-device data")?.stderr_contains("the machine is paused")?;
    ctl(ctx, "resume")?;
    ctl(ctx, "remove-device data")?;
    open()?.stdout_lacks(IMAGE)?;
    guest.send("while [ -e /dev/vda ]; do usleep 100000; done; echo the disk is gone\n");
    guest.wait_for("the disk is gone")?;
    // While it stands still a device can come, and is there when it goes on. The port and the image are free again.
    ctl(ctx, "pause")?;
    ctl(ctx, &format!("add-disk {IMAGE} --ro"))?.stdout_contains("_disk0 is 0000:01:00.0 in the guest")?;
    ctl(ctx, "resume")?;
    guest
        .send("until (: < /dev/vda) 2>/dev/null; do usleep 100000; done; cat /sys/block/vda/ro; sha256sum < /dev/vda\n");
    guest.wait_for("1\r\n")?;
    guest.wait_for(&sum)?;
    guest.send("poweroff -f\n");
    let guest = guest.finish()?;
    ensure!(guest.status == 0, "it ended with status {}", guest.status);
    guest.stdout_contains("vmm: data is plugged in, the guest sees it at 0000:01:00.0")?;
    guest.stdout_contains("vmm: data is unplugged")?;
    ctx.run(&format!("rm {IMAGE}")).expect_success()?;
    Ok(())
}
