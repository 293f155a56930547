//! A Debian on a disk, as cloud images have it, with its own kernel and initramfs: it boots, works, and loses nothing to a kill.

use crate::host::HostSpec;
use crate::suite::{Case, Ctx, Interactive, TestResult, case, ensure};

pub(super) fn all() -> Vec<Case> {
    let host = || HostSpec::default().with_distribution();
    vec![
        case("long/a Debian boots from a raw disk, verifies what it writes, and powers off", host(), raw),
        case("long/a Debian on a qcow2 disk loses nothing that it has synced to a kill", host(), killed),
    ]
}

/// Where the image's kernel and initramfs are put.
const KERNEL: &str = "/tmp/debian-vmlinuz";
const INITRD: &str = "/tmp/debian-initrd";
/// A boot decompresses its kernel and starts systemd under two levels of emulation.
const DEADLINE: u64 = 900;
/// Files that the guest has synced before it is killed.
const SYNCED: u32 = 12;

fn put_kernel(ctx: &Ctx) -> TestResult {
    let distribution = ctx.artefacts.distribution()?;
    for (path, file) in [(KERNEL, distribution.vmlinuz()), (INITRD, distribution.initrd())] {
        ctx.put(path, &std::fs::read(file)?)?;
    }
    Ok(())
}

/// Boots from `disk`; `more` is for the kernel's command line.
fn boot<'a>(ctx: &'a Ctx, disk: &str, more: &str) -> TestResult<Interactive<'a>> {
    let command = format!(
        "exec vmm run --kernel {KERNEL} --initrd {INITRD} --cmdline 'console=ttyS0 root=/dev/vda1 quiet {more}' \
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
    let mut guest = boot(ctx, "/dev/vda", "")?;
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

fn killed(ctx: &Ctx) -> TestResult {
    put_kernel(ctx)?;
    let image = ctx.program("image")?;
    let size = ctx.run("cat /sys/block/vda/size").expect_success()?;
    let size = size.stdout.trim().parse::<u64>()? * 512;
    ctx.run(&format!("cd /tmp && {image} debian.qcow2 {size} /dev/vda raw")).expect_success()?;
    let mut guest = boot(ctx, "/tmp/debian.qcow2,backing", "")?;
    log_in(&mut guest)?;
    // Each file is its own checksum's; it is told when it is on the disk.
    guest.send(
        "cd /root; for n in $(seq 1000); do head -c 200000 /dev/urandom > f; mv f $(sha256sum < f | cut -c -64); sync; \
         echo synced $n.; done\n",
    );
    guest.wait_for(&format!("synced {SYNCED}."))?;
    ctx.run("kill -9 $(pidof vmm)").expect_success()?;
    guest.finish()?;
    // The initramfs has what checks the file system; the journal is replayed first, as every boot does.
    let mut guest = boot(ctx, "/tmp/debian.qcow2,backing", "break=mount")?;
    guest.wait_for("(initramfs) ")?;
    guest.send("fsck.ext4 -p /dev/vda1; fsck.ext4 -f -n /dev/vda1; echo clean: $?.\n");
    guest.wait_for("clean: 0.")?;
    guest.send("exit\n");
    log_in(&mut guest)?;
    guest.send(
        "cd /root; n=0; for f in $(ls | grep -x '[0-9a-f]*' | grep -x '.\\{64\\}'); do \
         [ $(sha256sum < $f | cut -c -64) = $f ] && n=$((n + 1)) || echo $f is damaged; done; echo whole files: $n.\n",
    );
    let said = guest.wait_for("whole files: ")?;
    ensure!(!said.contains("is damaged"), "{said}");
    let whole: u32 = guest.wait_for(".")?.trim_end_matches('.').parse()?;
    ensure!(whole >= SYNCED, "{SYNCED} files were synced, {whole} are there");
    power_off(guest)?;
    ctx.run(&format!("rm {KERNEL} {INITRD} /tmp/debian.qcow2")).expect_success()?;
    Ok(())
}
