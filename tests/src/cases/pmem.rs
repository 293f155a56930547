//! Persistent memory: what a guest writes there is in the file, durable when the guest was told so, and there again after reboots and
//! kills. Guests run the kernel of hosts: that of guests knows no such memory.

use crate::host::{HostSpec, NVME};
use crate::suite::{Case, Ctx, GuestInitrd, Interactive, QUIET, TestResult, case, ensure};

pub(super) fn all() -> Vec<Case> {
    vec![
        case(
            "pmem/what was flushed outlives a reboot and a kill, beside a drive",
            HostSpec::default(),
            outlives,
        ),
        case("pmem/files that cannot be had, and one that is cut short", HostSpec::default(), refused),
    ]
}

/// Where the files are: ext4 on a medium that is small enough to be searched.
const FILES: &str = "/tmp/files";
const MEDIUM: &str = "/tmp/medium";
const KERNEL: &str = "/tmp/vmlinux";
const GUEST: &str = "/tmp/guest.cpio";
/// What a guest says when it takes commands.
const READY: &str = "shell is ready";
/// Bytes of the drive that are read.
const READ: u64 = 1 << 20;

/// Mounts what is on the first piece of memory, without a page cache between it and programs.
const MOUNT: &str = "mkdir /mnt; mount -t ext4 -o dax /dev/pmem0 /mnt; grep pmem0 /proc/mounts";

fn outlives(ctx: &Ctx) -> TestResult {
    prepare(ctx)?;
    let command = format!(
        "cd {FILES}; exec vmm run {QUIET} --memory 192M --kernel {KERNEL} --initrd {GUEST} --vfio {NVME} --disk /tmp/disk.img \
         --pmem a.img --pmem /tmp/b.img,ro,size=2M"
    );
    let mut guest = ctx.run(&command).deadline(400).start()?;
    guest.wait_for(READY)?;
    guest.send(format!("{MOUNT}; head -c 65536 /dev/zero > /mnt/buffer; dax /mnt/buffer /dev/vda\n"));
    guest.wait_for("/mnt ext4 rw,relatime,dax")?;
    // Devices of vmm's reach it.
    guest.wait_for("/dev/vda reaches /mnt/buffer")?;
    flush(ctx, &mut guest, "first")?;
    guest.send("dd if=/dev/nvme0n1 bs=256k count=4 iflag=direct 2>/dev/null | sha256sum\n");
    guest.wait_for(&ctx.artefacts.disk.sha256(READ)?)?;
    cannot_be_written(ctx, &mut guest)?;
    guest.send("umount /mnt; reboot -f\n");

    guest.wait_for(READY)?;
    guest.send(format!("{MOUNT}; cat /mnt/first\n"));
    guest.wait_for("what is first")?;
    flush(ctx, &mut guest, "second")?;
    guest.kill()?;
    let mount = format!(
        "mkdir /tmp/mnt; mount -t ext4 -o loop {FILES}/a.img /tmp/mnt; cat /tmp/mnt/first /tmp/mnt/second"
    );
    ctx.run(&mount).expect_success()?.stdout_contains("what is first\nwhat is second\n")?;
    ctx.run(&format!(
        "umount /tmp/mnt && umount {FILES} && rmdir /tmp/mnt {FILES} && rm {MEDIUM} /tmp/disk.img /tmp/b.img {GUEST} {KERNEL}; \
         cat /tmp/writeback > /proc/sys/vm/dirty_writeback_centisecs"
    ))
    .expect_success()?;
    Ok(())
}

/// The guest makes a file of this name, whose content is on the host's medium when the guest hears that it is durable. Nothing but a flush
/// brings it there.
fn flush(ctx: &Ctx, guest: &mut Interactive, name: &str) -> TestResult {
    guest.send(format!("echo what is {name} > /mnt/{name}; sync /mnt/{name}; echo {name} is dur''able\n"));
    guest.wait_for(&format!("{name} is durable"))?;
    ctx.run(&format!("tr -d '\\000' < {MEDIUM} | grep -q 'what is {name}'")).expect_success()?;
    Ok(())
}

/// What is written there is forgotten, and the guest goes on.
fn cannot_be_written(ctx: &Ctx, guest: &mut Interactive) -> TestResult {
    let sum = ctx.run("head -c 2097152 /tmp/b.img | md5sum").expect_success()?.stdout;
    let sum = sum.split_whitespace().next().unwrap_or("missing").to_owned();
    guest.send("dd if=/dev/zero of=/dev/pmem1 bs=4k count=1 oflag=direct 2>/dev/null; sync\n");
    guest.send("echo pmem1 has $(blockdev --getsize64 /dev/pmem1) $(dd if=/dev/pmem1 bs=64k iflag=direct 2>/dev/null | md5sum)\n");
    guest.wait_for(&format!("pmem1 has 2097152 {sum}"))?;
    let after = ctx.run("head -c 2097152 /tmp/b.img | md5sum").expect_success()?;
    after.stdout_contains(&sum)?;
    Ok(())
}

/// A guest's shell, its kernel, and files on ext4, whose medium gets nothing but what is flushed.
fn prepare(ctx: &Ctx) -> TestResult {
    let script =
        format!("stty -echo; echo {READY}; while read -r line; do eval \"$line\"; done; poweroff -f");
    let initrd = GuestInitrd::with_script(ctx.artefacts, &script)?;
    let initrd = initrd.file("bin/dax", &ctx.get(&ctx.program("dax")?)?)?;
    ctx.put(GUEST, &initrd.build()?)?;
    ctx.put_host_kernel(KERNEL)?;
    ctx.run(&format!(
        "mkdir {FILES}; truncate -s 6M {MEDIUM}; mke2fs -q -F {MEDIUM}; mount -t ext4 -o loop {MEDIUM} {FILES}; cd {FILES}; \
         truncate -s 4M a.img; mke2fs -q -F -b 4096 a.img; truncate -s 1M /tmp/disk.img; \
         head -c 4194304 /dev/urandom > /tmp/b.img; sync; \
         cat /proc/sys/vm/dirty_writeback_centisecs > /tmp/writeback; echo 0 > /proc/sys/vm/dirty_writeback_centisecs"
    ))
    .expect_success()?;
    Ok(())
}

fn refused(ctx: &Ctx) -> TestResult {
    ctx.run("mkdir -p /tmp/pmem/dir; cd /tmp/pmem; : > empty.img; truncate -s 3M odd.img; truncate -s 4M good.img x.qcow2")
        .expect_success()?;
    let bad = [
        ("none.img", "the pmem file none.img cannot be opened for writing\n  cause: No such file"),
        ("dir", "dir is a directory and no pmem file"),
        ("/dev/zero", "/dev/zero is a character device and no pmem file"),
        ("empty.img", "the pmem file empty.img is empty"),
        ("odd.img", "the pmem file odd.img has 3145728 bytes, which is not a multiple of 2 MiB"),
        ("good.img,size=3M", "3145728 bytes of the pmem file good.img are not a multiple of 2 MiB"),
        ("good.img,size=8M,ro", "the pmem file good.img is given twice"),
        ("x.qcow2", "the pmem file x.qcow2 is an image of the format qcow2"),
    ];
    let all: Vec<String> = bad.iter().map(|(pmem, _)| format!("--pmem {pmem}")).collect();
    let output = ctx.run(&format!("cd /tmp/pmem; vmm run {}", all.join(" "))).expect_status(2)?;
    for (_, said) in &bad {
        output.stderr_contains(said)?;
    }
    let count = |text: &str| output.stderr.matches(text).count();
    ensure!(count("error: ") == bad.len() && count(" help: ") == bad.len(), "not each is one with a remedy");
    let large =
        ctx.run("cd /tmp/pmem; truncate -s 8388608G good.img; vmm run --pmem good.img").expect_status(2)?;
    large.stderr_contains("error: no room for 8192 TiB of persistent memory")?;

    // One that is cut short ends the machine, whatever the guest does with it.
    ctx.put(GUEST, &GuestInitrd::with_script(ctx.artefacts, &format!("echo {READY}; read what"))?.build()?)?;
    ctx.run("cd /tmp/pmem; truncate -s 4194304 good.img").expect_success()?;
    let guest = ctx.run(&format!("cd /tmp/pmem; vmm run {QUIET} --initrd {GUEST} --pmem good.img"));
    let mut guest = guest.deadline(200).start()?;
    guest.wait_for(READY)?;
    ctx.run("vmm run --pmem /tmp/pmem/good.img,ro")
        .expect_status(3)?
        .stderr_contains("good.img is in use by another process")?;
    ctx.run("truncate -s 2097152 /tmp/pmem/good.img").expect_success()?;
    let guest = guest.finish()?;
    ensure!(guest.status == 3, "it ended with status {}", guest.status);
    guest.stderr_contains("error: the pmem file good.img has lost a part that the guest has\n   help: ")?;
    ctx.run(&format!("rm -r /tmp/pmem {GUEST}")).expect_success()?;
    Ok(())
}
