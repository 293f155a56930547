//! Disks: what a guest writes is in the image, on every kind of image and whatever its driver does meanwhile; discarded
//! blocks go back; nothing that was flushed is lost with the process; images that cannot be had are refused.

use crate::host::HostSpec;
use crate::suite::{Case, Ctx, GuestInitrd, QUIET, TestResult, case, ensure};

pub(super) fn all() -> Vec<Case> {
    let host = HostSpec::default;
    vec![
        case("disks/every byte on raw, direct, qcow2 and a base", host(), every_kind),
        case("disks/discarded blocks go back to the host", host(), discards),
        case("disks/a kill loses nothing that was flushed", host(), |ctx| killed(ctx, 1)),
        case("long/10 kills lose nothing that was flushed", host(), |ctx| killed(ctx, 10)),
        case("disks/errors of the host reach the guest, which goes on", host(), host_errors),
        case("disks/images that cannot be had", host(), refused),
    ]
}

/// Where images are: ext4, which knows holes and direct I/O.
pub(super) const IMAGES: &str = "/tmp/images";

/// Makes the file system for images, and puts an initramfs for the guest there that has `programs`.
fn prepare(ctx: &Ctx, script: &str, programs: &[&str]) -> TestResult {
    let mut initrd = GuestInitrd::with_script(ctx.artefacts, &format!("{script}\npoweroff -f"))?;
    for program in programs {
        let content = ctx.get(&ctx.program(program)?)?;
        initrd = initrd.file(&format!("bin/{program}"), &content)?;
    }
    make_images(ctx)?;
    ctx.put("/tmp/guest.cpio", &initrd.build()?)
}

/// Makes the file system for images.
pub(super) fn make_images(ctx: &Ctx) -> TestResult {
    let mount = format!(
        "mkdir -p {IMAGES} && truncate -s 256M /tmp/images.fs && mke2fs -q -F /tmp/images.fs && \
         mount -t ext4 -o loop /tmp/images.fs {IMAGES}"
    );
    ctx.run(&mount).expect_success()?;
    Ok(())
}

fn clean_up(ctx: &Ctx) -> TestResult {
    remove_images(ctx)?;
    ctx.run("rm /tmp/guest.cpio").expect_success()?;
    Ok(())
}

/// Takes it away.
pub(super) fn remove_images(ctx: &Ctx) -> TestResult {
    ctx.run(&format!("umount {IMAGES} && rm -r {IMAGES} /tmp/images.fs")).expect_success()?;
    Ok(())
}

const VMM: &str = "vmm run --memory 128M --initrd /tmp/guest.cpio";

fn every_kind(ctx: &Ctx) -> TestResult {
    // While vdb to vdd are exercised, they are reset under their driver, which goes on; that of vda comes and goes in the middle of
    // writes.
    let script = "\
        resets() {
            pci=$(readlink -f /sys/block/$1/device/..); n=0; last=0
            while [ -d /proc/$2 ]; do
                read reads x x x writes x < /sys/block/$1/stat
                if [ $((reads + writes)) -lt $((last + 12)) ]; then usleep 10000; continue; fi
                last=$((reads + writes)); echo 1 > $pci/reset && n=$((n + 1)) || echo $1 cannot be reset
            done
            [ $n -lt 3 ] || echo $1 was reset in between
        }
        for disk in vda vdb vdc vdd; do cd /sys/block/$disk; echo $disk serial $(cat serial) ro $(cat ro) \
        queues $(ls mq | wc -l) block $(cat queue/logical_block_size) discard $(cat queue/discard_granularity) packed $(cut -c 35 device/features); done
        device=$(basename $(readlink /sys/block/vda/device)); cd /sys/bus/virtio/drivers/virtio_blk
        for disk in vdb vdc vdd; do exercise disk /dev/$disk 1 & resets $disk $! & done
        for turn in $(seq 3); do
            dd if=/dev/zero of=/dev/vda bs=64k count=32 2>/dev/null & sleep 0; echo $device > unbind; wait $!
            echo $device > bind
        done
        wait; exercise disk /dev/vda 1
        for disk in vda vdb vdc vdd; do echo sum $disk $(head -c 1048576 /dev/$disk | md5sum); done";
    prepare(ctx, script, &["exercise"])?;
    let image = ctx.program("image")?;
    let make = format!(
        "cd {IMAGES}; truncate -s 16M a.img b.img base.img; {image} c.qcow2 16777216; \
         {image} d.qcow2 16777216 base.img raw"
    );
    ctx.run(&make).expect_success()?;
    let disks = "--disk a.img,serial=first,lock=off --disk b.img,direct,packed,rate={ops=100000,ops-burst=10000} --disk c.qcow2,queues=1 --disk d.qcow2,backing,packed";
    let guest =
        ctx.run(&format!("cd {IMAGES}; {VMM} --cpus 2 {QUIET} {disks}")).deadline(400).expect_success()?;
    guest.stdout_contains("vda serial first ro 0 queues 2 block 512 discard ")?;
    guest.stdout_contains("vdc serial ro 0 queues 1 block 512 discard 65536 packed 0")?;
    guest.stdout_contains("vdd serial ro 0 queues 2 block 512 discard 65536 packed 1")?;
    for disk in ["vdb", "vdc", "vdd"] {
        guest.stdout_contains(&format!("{disk} was reset in between"))?;
    }
    for disk in ["vda", "vdb", "vdc", "vdd"] {
        guest.stdout_contains(&format!("exercised: 40 writes and 32 reads of 32768 bytes on /dev/{disk}"))?;
    }
    // What is exercised is the same everywhere.
    let sum = |disk: &str| -> TestResult<String> {
        let line = guest.line_with(&format!("sum {disk} "))?;
        Ok(line.split_whitespace().nth(2).unwrap_or("missing").to_owned())
    };
    let raw = ctx.run(&format!("head -c 1048576 {IMAGES}/a.img | md5sum")).expect_success()?;
    for disk in ["vda", "vdb", "vdc", "vdd"] {
        ensure!(
            raw.stdout.starts_with(&sum(disk)?),
            "{disk} reads as {}, a.img as {}",
            sum(disk)?,
            raw.stdout
        );
    }
    ctx.run(&format!("cd {IMAGES}; cmp a.img b.img && cmp -n 16777216 base.img /dev/zero"))
        .expect_success()?;

    // Read again by machines that may only read, two at a time, whose consoles are not to be mixed.
    let again = "\
        for disk in vda vdb vdc; do echo $disk ro $(cat /sys/block/$disk/ro) $(head -c 1048576 /dev/$disk | md5sum); done";
    let initrd = GuestInitrd::with_script(ctx.artefacts, &format!("{again}\npoweroff -f"))?;
    ctx.put("/tmp/guest.cpio", &initrd.build()?)?;
    let disks = "--disk a.img,ro --disk c.qcow2,ro --disk d.qcow2,ro,backing";
    let guest = ctx.run(&format!(
        "cd {IMAGES}; {VMM} {QUIET} {disks} > other & {VMM} {QUIET} {disks}; s=$?; wait $! && cat other && exit $s"
    ));
    let guest = guest.deadline(300).expect_success()?;
    let right = guest.stdout.matches(raw.stdout.split_whitespace().next().unwrap_or("none")).count();
    ensure!(right == 6, "{right} of 6 disks read as before");
    guest.stdout_contains("vda ro 1 ")?;
    clean_up(ctx)
}

fn discards(ctx: &Ctx) -> TestResult {
    // vdc is a block device of the host.
    let script = "\
        for disk in vda vdb vdc; do dd if=/dev/urandom of=/dev/$disk bs=1M count=12 conv=fsync 2>/dev/null; done
        echo written; read go
        for disk in vda vdb vdc; do blkdiscard -o 4194304 -l 8388608 /dev/$disk && echo $disk discarded; done
        sync; echo done; read go";
    prepare(ctx, script, &[])?;
    let image = ctx.program("image")?;
    let make = format!(
        "cd {IMAGES}; truncate -s 16M a.img c.img; {image} b.qcow2 16777216; device=$(losetup -f) && losetup $device {IMAGES}/c.img && echo $device"
    );
    let device = ctx.run(&make).expect_success()?.stdout.trim().to_owned();
    let mut guest = ctx
        .run(&format!("cd {IMAGES}; {VMM} {QUIET} --disk a.img --disk b.qcow2 --disk {device}"))
        .deadline(300)
        .start()?;
    let blocks = || -> TestResult<Vec<u64>> {
        let sizes =
            ctx.run(&format!("sync; cd {IMAGES}; stat -c %b a.img b.qcow2 c.img")).expect_success()?;
        Ok(sizes.stdout.lines().map_while(|line| line.parse().ok()).collect())
    };
    guest.wait_for("written")?;
    let before = blocks()?;
    guest.send("go\n");
    guest.wait_for("done")?;
    let after = blocks()?;
    guest.send("go\n");
    let guest = guest.finish()?;
    ensure!(guest.status == 0, "the guest ended with status {}", guest.status);
    for (name, (before, after)) in ["raw", "qcow2", "a block device"].iter().zip(before.iter().zip(&after)) {
        // 8 MiB in sectors, less what is no whole cluster.
        ensure!(before - after >= 16000, "{name}: {before} sectors before, {after} after");
    }
    ensure!(before.len() == 3 && after.len() == 3, "{before:?}, {after:?}");
    ctx.run(&format!("losetup -d {device}")).expect_success()?;
    clean_up(ctx)
}

/// Blocks that are written round and round.
const BLOCKS: u64 = 97;

fn killed(ctx: &Ctx, rounds: u32) -> TestResult {
    // The kernel hands what it does not know of its command line to the first process.
    let script = format!(
        "if [ $raw ]; then ledger check /dev/vda {BLOCKS} $raw; ledger check /dev/vdb {BLOCKS} $qcow2
         else ledger write raw /dev/vda {BLOCKS} & ledger write qcow2 /dev/vdb {BLOCKS}; fi"
    );
    prepare(ctx, &script, &["ledger"])?;
    let image = ctx.program("image")?;
    let run = |cmdline: &str| {
        format!(
            "cd {IMAGES}; exec {VMM} --cmdline 'console=ttyS0 quiet {cmdline}' --disk a.img --disk b.qcow2"
        )
    };
    for _ in 0..rounds {
        let make = format!("cd {IMAGES}; rm -f *; truncate -s 1M a.img; {image} b.qcow2 1048576");
        ctx.run(&make).expect_success()?;
        let mut guest = ctx.run(&run("")).deadline(200).start()?;
        guest.wait_for("raw durable 60 .")?;
        // Which of the two is faster is not known.
        guest.wait_for("qcow2 durable ")?;
        let guest = guest.kill()?;
        let last = |name: &str| -> u64 {
            let word = format!("{name} durable ");
            let turns = guest.stdout.split(&word).skip(1);
            let turns = turns.filter_map(|rest| rest.split_once(" .")?.0.parse().ok());
            turns.max().unwrap_or(0)
        };
        let (raw, qcow2) = (last("raw"), last("qcow2"));
        ensure!(raw >= 60 && qcow2 > 0, "durable up to turn {raw} and {qcow2}");
        let checked = ctx.run(&run(&format!("raw={raw} qcow2={qcow2}"))).deadline(200).expect_success()?;
        checked.stdout_contains(&format!("/dev/vda checked up to turn {raw} ."))?;
        checked.stdout_contains(&format!("/dev/vdb checked up to turn {qcow2} ."))?;
    }
    clean_up(ctx)
}

fn host_errors(ctx: &Ctx) -> TestResult {
    let script = "\
        one() { dd if=/dev/vda of=/dev/null bs=4k skip=$1 count=1 iflag=direct; }
        one 1 && echo good before; read go
        one 2 || echo the read failed
        dd if=/dev/zero of=/dev/vda bs=4k count=1 oflag=direct || echo the write failed
        echo that was it; read go; exercise disk /dev/vda 1";
    prepare(ctx, script, &["exercise"])?;
    let make = format!(
        "cd {IMAGES}; truncate -s 16M a.img; device=$(losetup -f) && losetup $device {IMAGES}/a.img && echo $device"
    );
    let device = ctx.run(&make).expect_success()?.stdout.trim().to_owned();
    let fail = |on: u8| {
        let name = device.trim_start_matches("/dev/");
        format!(
            "cd /sys/kernel/debug/fail_make_request; echo 100 > probability; echo -1 > times; echo 0 > verbose; \
             echo {on} > /sys/block/{name}/make-it-fail"
        )
    };
    let mut guest = ctx.run(&format!("{VMM} {QUIET} --disk {device},direct")).deadline(300).start()?;
    guest.wait_for("good before")?;
    ctx.run(&fail(1)).expect_success()?;
    guest.send("go\n");
    guest.wait_for("the read failed")?;
    guest.wait_for("the write failed")?;
    guest.wait_for("that was it")?;
    ctx.run(&fail(0)).expect_success()?;
    guest.send("go\n");
    let guest = guest.finish()?;
    ensure!(guest.status == 0, "the guest ended with status {}", guest.status);
    guest.stdout_contains("exercised: 40 writes and 32 reads")?;
    guest.stderr_contains("a request failed, the guest sees an I/O error")?;
    ctx.run(&format!("losetup -d {device}")).expect_success()?;
    clean_up(ctx)
}

fn refused(ctx: &Ctx) -> TestResult {
    prepare(ctx, "echo up; read go", &[])?;
    let image = ctx.program("image")?;
    let make = format!(
        "cd {IMAGES}; mkdir dir; : > empty.img; truncate -s 16M good.img held.img; printf KDMV > other.img
         {image} cut.qcow2 16777216; truncate -s 70000 cut.qcow2; {image} guess.img 16777216
         {image} top.qcow2 16777216 good.img raw; echo no > text.qcow2
         {image} one.qcow2 16777216 two.qcow2 qcow2; {image} two.qcow2 16777216 one.qcow2 qcow2"
    );
    ctx.run(&make).expect_success()?;
    let bad = [
        ("none.img", "the disk image none.img cannot be opened for writing\n  cause: No such file"),
        ("dir", "dir is a directory and no disk image"),
        ("empty.img", "the disk image empty.img has 0 bytes, a disk has at least 512"),
        ("other.img", "the disk image other.img has the format VMDK, which is not read"),
        ("cut.qcow2", "the qcow2 image cut.qcow2 cannot be used\n  cause: its "),
        ("guess.img", "the disk image guess.img begins like qcow2, but its name does not end in .qcow2"),
        ("text.qcow2", "the disk image text.qcow2 is to be qcow2, but does not begin like it"),
        ("top.qcow2", "the qcow2 image top.qcow2 is based on good.img, which is not allowed"),
        ("one.qcow2,backing,ro", "one.qcow2 is based on itself, through "),
        ("good.img,serial=much-too-long-for-a-disk", "the serial number `much-too-long-for-a-disk`"),
        ("good.img", "the disk image good.img is given twice"),
    ];
    let disks: Vec<String> = bad.iter().map(|(disk, _)| format!("--disk {disk}")).collect();
    let all = ctx.run(&format!("cd {IMAGES}; {VMM} {}", disks.join(" "))).expect_status(2)?;
    for (_, said) in &bad {
        all.stderr_contains(said)?;
    }
    let count = |text: &str| all.stderr.matches(text).count();
    ensure!(count("error: ") == bad.len() && count(" help: ") == bad.len(), "not each is one with a remedy");

    let mut first = ctx.run(&format!("cd {IMAGES}; {VMM} {QUIET} --disk held.img")).deadline(200).start()?;
    first.wait_for("up")?;
    for option in ["", ",ro"] {
        let second = ctx.run(&format!("cd {IMAGES}; {VMM} --disk held.img{option}")).expect_status(3)?;
        second.stderr_contains("error: the disk image held.img is in use by another process")?;
        second.stderr_contains(" help: vmm (pid ")?;
    }
    first.send("go\n");
    let first = first.finish()?;
    ensure!(first.status == 0, "the first ended with status {}", first.status);
    clean_up(ctx)
}
