//! A Debian on a disk, as cloud images have it, with its own kernel and initramfs: it boots, verifies what it writes, and powers off.

use crate::host::HostSpec;
use crate::suite::{Case, Ctx, Interactive, TestResult, case, ensure};

pub(super) fn all() -> Vec<Case> {
    let host = HostSpec::default().with_distribution();
    vec![case("long/a Debian boots from a raw disk, verifies what it writes, and powers off", host, raw)]
}

/// Where the image's kernel and initramfs are put.
const KERNEL: &str = "/tmp/debian-vmlinuz";
const INITRD: &str = "/tmp/debian-initrd";
/// A boot decompresses its kernel and starts systemd under two levels of emulation.
const DEADLINE: u64 = 900;

fn put_kernel(ctx: &Ctx) -> TestResult {
    let distribution = ctx.artefacts.distribution()?;
    for (path, file) in [(KERNEL, distribution.vmlinuz()), (INITRD, distribution.initrd())] {
        ctx.put(path, &std::fs::read(file)?)?;
    }
    Ok(())
}

/// Boots from `disk`.
fn boot<'a>(ctx: &'a Ctx, disk: &str) -> TestResult<Interactive<'a>> {
    let command = format!(
        "exec vmm run --kernel {KERNEL} --initrd {INITRD} --cmdline 'console=ttyS0 root=/dev/vda1 quiet' \
         --memory 512M --cpus 2 --disk {disk} --rng"
    );
    ctx.run(&command).deadline(DEADLINE).start()
}

/// Logs in: root has no password.
fn log_in(guest: &mut Interactive) -> TestResult {
    guest.wait_for("login: ")?;
    guest.send("root\n");
    // What is typed is echoed, so what is waited for is not in it.
    guest.send("PS1=; stty -echo; echo logged $((1))n\n");
    guest.wait_for("logged 1n")?;
    Ok(())
}

fn power_off(mut guest: Interactive) -> TestResult {
    guest.send("systemctl poweroff\n");
    guest.wait_for("reboot: Power down")?;
    let guest = guest.finish()?;
    ensure!(guest.status == 0, "it ended with status {}", guest.status);
    guest.stderr_contains("vmm: the guest powered off")?;
    Ok(())
}

fn raw(ctx: &Ctx) -> TestResult {
    put_kernel(ctx)?;
    let mut guest = boot(ctx, "/dev/vda")?;
    log_in(&mut guest)?;
    guest.send("systemctl is-system-running --wait; findmnt -n -o SOURCE,FSTYPE /; lsblk -n -o NAME,PTTYPE /dev/vda\n");
    guest.wait_for("running")?;
    guest.wait_for("/dev/vda1")?;
    guest.wait_for("ext4")?;
    guest.wait_for("gpt")?;
    for (direct, depth) in [(1, 16), (0, 1)] {
        guest.send(format!(
            "fio --name=v --filename=/root/fio --size=8M --rw=randrw --bs=4k --direct={direct} --ioengine=libaio --iodepth={depth} \
             --verify=crc32c --verify_fatal=1 --minimal > /root/log; echo verified: $?.; rm /root/fio\n"
        ));
        guest.wait_for("verified: 0.")?;
    }
    power_off(guest)?;
    ctx.run(&format!("rm {KERNEL} {INITRD}")).expect_success()?;
    Ok(())
}
