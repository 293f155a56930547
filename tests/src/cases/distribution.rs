//! A Debian on a disk, as cloud images have it, with its own kernel and initramfs: it boots, verifies what it writes, powers off, and
//! loses nothing to a kill that it has synced.

use super::disks::{IMAGES, make_images, remove_images};
use crate::host::HostSpec;
use crate::suite::{Case, Ctx, Interactive, TestResult, case, ensure};

pub(super) fn all() -> Vec<Case> {
    let host = || HostSpec::default().with_distribution();
    vec![
        case("long/a Debian boots from a raw disk, verifies what it writes, and powers off", host(), raw),
        case(
            "long/a Debian on qcow2 loses nothing to a kill that it has synced, and boots again",
            host(),
            killed,
        ),
        case("long/fio verifies every format and mode, its disk reset all the time", host(), every_mode),
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

/// Writes files, each called by its turn and its checksum, and says which of them are on the disk.
const WRITE: &str = "cd /root; for n in $(seq 1000); do head -c 200000 /dev/urandom > f; mv f $n.$(sha256sum < f | cut -c -64); sync; \
                     echo synced $n.; done\n";
/// Looks for the files of so many turns.
const CHECK: &str = "cd /root; n=0; for t in $(seq TURNS); do set -- $t.*; \
                     [ $t.$(sha256sum < $1 | cut -c -64) = $1 ] && n=$((n + 1)) || echo $1 is damaged; done; echo whole: $n.\n";

/// The image is based on the host's disk, and has what its guest writes. A shell is all that runs as the guest is killed; the
/// next one finds the root file system as the kernel has mounted it, with its journal replayed and read-only, and becomes systemd.
fn killed(ctx: &Ctx) -> TestResult {
    put_kernel(ctx)?;
    let image = ctx.program("image")?;
    let make = format!("cd /tmp && {image} debian.qcow2 $(($(cat /sys/block/vda/size) * 512)) /dev/vda raw");
    ctx.run(&make).expect_success()?;
    let shell = |more: &str| -> TestResult<Interactive<'_>> {
        let mut guest = boot(ctx, "/tmp/debian.qcow2,backing", &format!("init=/bin/sh {more}"))?;
        guest.wait_for("# ")?;
        guest.send("PS1=; stty -echo; echo a shell $((1))n\n");
        guest.wait_for("a shell 1n")?;
        Ok(guest)
    };
    let mut guest = shell("rw")?;
    guest.send(WRITE);
    guest.wait_for(&format!("synced {SYNCED}."))?;
    let guest = guest.kill()?;
    let turns = guest.stdout.matches("synced ").count();

    let mut guest = shell("")?;
    guest.send("fsck.ext4 -f -n /dev/vda1; echo fsck: $?.\n");
    let said = guest.wait_for("fsck: ")?;
    ensure!(guest.wait_for("\n")?.starts_with("0."), "the file system is damaged: {said}");
    guest.send(CHECK.replace("TURNS", &turns.to_string()));
    let said = guest.wait_for("whole: ")?;
    let whole = guest.wait_for(".")?;
    ensure!(whole == format!("{turns}."), "{turns} files were synced, of which are there {whole} {said}");
    guest.send("exec /sbin/init\n");
    log_in(&mut guest)?;
    power_off(guest)?;
    ctx.run(&format!("rm {KERNEL} {INITRD} /tmp/debian.qcow2")).expect_success()?;
    Ok(())
}

/// What fio is let loose on, vdb and so on.
const MODES: [&str; 7] = [
    "a.img",
    "b.img,direct",
    "c.img,direct,packed,queues=1",
    "d.qcow2",
    "e.qcow2,direct",
    "f.qcow2,packed,backing",
    "g.img,rate.bytes=64M",
];
/// Of each disk: it is written at random and read again, with as many requests under way, while it is reset whenever it has done something.
const VERIFY: &str = "mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t tmpfs tmpfs /tmp
    verify() {
        pci=$(readlink -f /sys/block/$1/device/..); n=0; last=0
        fio --name=$1 --filename=/dev/$1 --size=8M --rw=randwrite --bs=RANGE --direct=1 --ioengine=libaio --iodepth=DEPTH \
            --verify=crc32c --verify_fatal=1 --minimal > /tmp/$1.log 2>&1 & fio=$!
        while [ -d /proc/$fio ]; do
            read reads x x x writes x < /sys/block/$1/stat
            if [ $((reads + writes)) -lt $((last + 100)) ]; then sleep 0.05; continue; fi
            last=$((reads + writes)); echo 1 > $pci/reset && n=$((n + 1)) || echo $1 cannot be reset
        done
        wait $fio && echo $1 is verified, reset $n times. || cat /tmp/$1.log
    }
    for disk in DISKS; do verify $disk; done; echo that was $((1))ll
";

/// Debian's fio on the lab's own kernel, whose driver knows that its device is reset.
fn every_mode(ctx: &Ctx) -> TestResult {
    make_images(ctx)?;
    let image = ctx.program("image")?;
    let make = format!(
        "cd {IMAGES}; truncate -s 16M a.img b.img c.img g.img base.img; for n in d e; do {image} $n.qcow2 16777216 || exit; done; \
         {image} f.qcow2 16777216 base.img raw"
    );
    ctx.run(&make).expect_success()?;
    let disks: String = MODES.map(|mode| format!(" --disk {mode}")).concat();
    let command = format!(
        "cd {IMAGES}; exec vmm run --initrd none --cmdline 'console=ttyS0 root=/dev/vda1 quiet init=/bin/sh' --memory 512M \
         --cpus 2 --disk /dev/vda,ro{disks}"
    );
    let mut guest = ctx.run(&command).deadline(DEADLINE).start()?;
    guest.wait_for("# ")?;
    guest.send("PS1=; PS2=; stty -echo; echo a shell $((1))n\n");
    guest.wait_for("a shell 1n")?;
    let names: Vec<String> = ('b'..).take(MODES.len()).map(|letter| format!("vd{letter}")).collect();
    for (range, depth) in [("4k", "16"), ("64k", "4")] {
        guest.send(VERIFY.replace("RANGE", range).replace("DEPTH", depth).replace("DISKS", &names.join(" ")));
        let said = guest.wait_for("that was 1ll")?;
        for name in &names {
            let line = said.lines().find(|line| line.starts_with(&format!("{name} is verified, reset ")));
            let line = line.unwrap_or("it is not verified");
            ensure!(line.starts_with(name.as_str()), "{name}, by requests of {range}: {line}: {said}");
            ensure!(range != "4k" || !line.contains("reset 0 times"), "{line}");
        }
    }
    guest.kill()?;
    remove_images(ctx)
}
