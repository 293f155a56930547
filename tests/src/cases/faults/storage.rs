//! File systems that fill up under a running guest, and files that reach the limit on their size: the guest sees an I/O error,
//! goes on, and has all that it was told is written.

use crate::suite::{Ctx, Failure, GuestInitrd, QUIET, TestResult, ensure};

/// A file system of 2 MiB, of which a quarter can be given back.
const FULL: &str = "/tmp/full";

/// vda is a raw image and vdb a qcow2 one, both there; vdc is a large file elsewhere. A piece is 64 KiB and begins with its number.
const SCRIPT: &str = "\
    piece() { { printf %08d $1; head -c 65528 /bin/busybox; } > /piece; }
    put() { piece $2; dd if=/piece of=/dev/$1 bs=64k count=1 seek=$2 oflag=direct conv=fsync 2>/dev/null; }
    fill() { n=$2; while [ $n -lt $3 ] && put $1 $n; do n=$((n + 1)); done; }
    check() { i=0; while [ $i -lt $2 ]; do piece $i; dd if=/dev/$1 bs=64k count=1 skip=$i iflag=direct 2>/dev/null | cmp - /piece || return
        i=$((i + 1)); done; echo $1 holds all $2 pieces; }
    fill vdb 0 6; fill vda 0 100; a=$n; fill vdb 6 100; b=$n
    echo full with $a and $b pieces; echo hello > /dev/hvc0 && echo the console goes on
    put vdc 2500 || echo no file as large as that; put vdc 1 && echo but smaller ones
    read go; put vda $a && put vdb $b && echo both take more; check vda $((a + 1)); check vdb $((b + 1)); poweroff -f";

pub(super) fn full(ctx: &Ctx) -> TestResult {
    let image = ctx.program("image")?;
    ctx.put("/tmp/guest.cpio", &GuestInitrd::with_script(ctx.artefacts, SCRIPT)?.build()?)?;
    let make = format!(
        "mkdir {FULL}; mount -t tmpfs -o size=2M none {FULL}; cd {FULL}; truncate -s 16M a.img; {image} b.qcow2 16777216
         dd if=/dev/zero of=ballast bs=64k count=8 2>/dev/null; truncate -s 192M /tmp/c.img"
    );
    ctx.run(&make).expect_success()?;
    // Files may be as large as guest memory, in units of 512 bytes.
    let command = format!(
        "cd {FULL}; ulimit -f 262144; vmm run {QUIET} --memory 128M --initrd /tmp/guest.cpio --disk a.img --disk b.qcow2 \
         --disk /tmp/c.img --console file=hvc --events events"
    );
    let mut guest = ctx.run(&command).deadline(200).start()?;
    guest.wait_for("full with ")?;
    guest.wait_for("the console goes on")?;
    guest.wait_for("no file as large as that")?;
    guest.wait_for("but smaller ones")?;
    ctx.run(&format!("rm {FULL}/ballast")).expect_success()?;
    guest.send("go\n");
    let guest = guest.finish()?;
    ensure!(guest.status == 0, "it ended with status {}", guest.status);
    guest.stdout_contains("both take more")?;
    let full = guest.line_with("full with ")?.to_owned();
    let mut pieces = full.split_whitespace().filter_map(|word| word.parse::<u64>().ok());
    let (Some(raw), Some(qcow2)) = (pieces.next(), pieces.next()) else { return Err(Failure::new(full)) };
    ensure!(raw > 3 && qcow2 > 5, "the file system was full from the start: {full}");
    guest.stdout_contains(&format!("vda holds all {} pieces", raw + 1))?;
    guest.stdout_contains(&format!("vdb holds all {} pieces", qcow2 + 1))?;
    guest.stderr_contains("a request failed, the guest sees an I/O error")?;
    guest.stderr_contains("No space left on device")?.stderr_contains("File too large")?;
    // What was acknowledged is in the file.
    for piece in [0, raw - 1, raw] {
        let number =
            ctx.run(&format!("dd if={FULL}/a.img bs=64k skip={piece} count=1 2>/dev/null | head -c 8"));
        number.expect_success()?.stdout_contains(&format!("{piece:08}"))?;
    }
    ctx.run(&format!("umount {FULL}; rm -r {FULL} /tmp/c.img /tmp/guest.cpio")).expect_success()?;
    Ok(())
}
