//! Virtio devices that come and go while the guest runs.

use super::{READY, SOCKET, ctl, machine, shell_with};
use crate::host::HostSpec;
use crate::suite::{Case, Ctx, Interactive, TestResult, case, ensure};

/// An image in the host, of 1 MiB.
pub(super) const IMAGE: &str = "/tmp/plugged.img";

/// Where programs of the host connect to the plugged vsock.
const VSOCK: &str = "/tmp/plugged.vsock";

pub(super) fn all() -> Vec<Case> {
    vec![case("api/virtio devices come and go, in a sandbox", HostSpec::default().one_cpu(), come_and_go)]
}

/// Makes [`IMAGE`]; gives its checksum.
pub(super) fn image(ctx: &Ctx) -> TestResult<String> {
    let made = format!("dd if=/dev/urandom of={IMAGE} bs=1M count=1 2>/dev/null; md5sum < {IMAGE}");
    let sum = ctx.run(&made).expect_success()?.stdout;
    Ok(sum.split_whitespace().next().unwrap_or_default().to_owned())
}

fn come_and_go(ctx: &Ctx) -> TestResult {
    let talker = ctx.program("vsock")?;
    shell_with(ctx, &[("bin/vsock", &ctx.get(&talker)?)])?;
    let sum = image(ctx)?;
    let mut guest = ctx.run(&machine("--pcie-ports 2 --sandbox on 2>&1")).deadline(240).start()?;
    guest.wait_for(READY)?;
    let refused = |arguments: &str| ctx.run(&format!("vmm ctl -s {SOCKET} {arguments}")).expect_status(1);
    let open = || ctx.run("ls -l /proc/$(pidof vmm)/fd").expect_success();
    // What fails leaves both ports free.
    refused("add-disk /tmp/none.img")?.stderr_contains("/tmp/none.img")?;
    ctl(ctx, &format!("add-disk {IMAGE} --id data"))?.stdout_contains("data is 0000:01:00.0 in the guest")?;
    // A disk can be opened a moment after its node is there.
    guest.send("until (: < /dev/vda) 2>/dev/null; do usleep 100000; done; md5sum < /dev/vda\n");
    guest.wait_for(&sum)?;
    // One that was plugged in can grow as any other.
    refused("resize-disk data 512K")?.stderr_contains("1048576 bytes, 524288 are fewer")?;
    ctl(ctx, "resize-disk data 3M")?;
    guest.send("until [ $(cat /sys/block/vda/size) = 6144 ]; do usleep 100000; done; echo it has grown\n");
    guest.wait_for("it has grown")?;
    refused(&format!("add-disk {IMAGE}"))?.stderr_contains(IMAGE)?;
    ctl(ctx, "add-net plug0")?.stdout_contains("_net0 is 0000:02:00.0 in the guest")?;
    guest.send("until [ -e /sys/class/net/eth0 ]; do usleep 100000; done; echo the card is there\n");
    guest.wait_for("the card is there")?;
    refused(&format!("add-vsock {VSOCK} 7"))?.stderr_contains("no root port of the machine is free")?;
    ctl(ctx, "info")?.stdout_contains(&format!("data: {IMAGE}, 0000:01:00.0 in the guest"))?;
    // A guest that stands still cannot be asked.
    ctl(ctx, "pause")?;
    refused("remove-device data")?.stderr_contains("the machine is paused")?;
    ctl(ctx, "resume")?;
    ctl(ctx, "remove-device data")?;
    open()?.stdout_lacks(IMAGE)?;
    guest.send("while [ -e /dev/vda ]; do usleep 100000; done; echo the disk is gone\n");
    guest.wait_for("the disk is gone")?;
    ctl(ctx, "remove-device _net0")?;
    ctx.run("test -e /sys/class/net/plug0").expect_status(1)?;
    shared(ctx, &mut guest)?;
    talks(ctx, &mut guest, &talker)?;
    // While it stands still a device can come, and is there when it goes on. The port and the image are free again.
    ctl(ctx, "pause")?;
    ctl(ctx, &format!("add-disk {IMAGE} --ro"))?.stdout_contains("_disk0 is 0000:01:00.0 in the guest")?;
    ctl(ctx, "resume")?;
    guest
        .send("until (: < /dev/vda) 2>/dev/null; do usleep 100000; done; cat /sys/block/vda/ro; head -c 1048576 /dev/vda | md5sum\n");
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

/// A directory comes, is looked into, and goes; its daemon ends with it.
fn shared(ctx: &Ctx, guest: &mut Interactive<'_>) -> TestResult {
    let virtiofsd = ctx.daemon("virtiofsd")?;
    ctx.run("mkdir /tmp/share && echo shared by the host > /tmp/share/file").expect_success()?;
    let daemon =
        format!("{virtiofsd} --socket-path /tmp/fs.sock --shared-dir /tmp/share --sandbox chroot 2>&1");
    let mut daemon = ctx.run(&daemon).start()?;
    daemon.wait_for("Waiting for vhost-user socket connection")?;
    ctl(ctx, "add-fs /tmp/fs.sock files --id share")?
        .stdout_contains("share is 0000:01:00.0 in the guest")?;
    guest.send(
        "mkdir -p /mnt; until mount -t virtiofs files /mnt 2>/dev/null; do usleep 100000; done; cat /mnt/file; \
         echo written by the guest > /mnt/file; umount /mnt; echo unmounted\n",
    );
    guest.wait_for("shared by the host")?;
    guest.wait_for("unmounted")?;
    ctx.run("cat /tmp/share/file").expect_success()?.stdout_contains("written by the guest")?;
    ctl(ctx, "remove-device share")?;
    daemon.finish()?;
    ctx.run("rm -r /tmp/share /tmp/fs.sock*").expect_success()?;
    Ok(())
}

/// A vsock comes, host and guest talk over it, and it goes with its socket.
fn talks(ctx: &Ctx, guest: &mut Interactive<'_>, talker: &str) -> TestResult {
    ctl(ctx, &format!("add-vsock {VSOCK} 7 --id socket"))?
        .stdout_contains("socket is 0000:01:00.0 in the guest")?;
    guest.send("until vsock echo vsock:52 2 2>/dev/null; do usleep 100000; done\n");
    guest.wait_for("listening at vsock:52")?;
    let moved = ctx.run(&format!("{talker} talk bridge:{VSOCK}:52 2 1024")).expect_success()?;
    moved.stdout_contains("2097152 bytes there and back over 2 connections")?;
    guest.wait_for("echoed 2097152 bytes over 2 connections")?;
    ctl(ctx, "remove-device socket")?;
    ctx.run(&format!("test -e {VSOCK}")).expect_status(1)?;
    Ok(())
}
