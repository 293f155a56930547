//! Guests that mean harm: what their root does with the devices they are given hurts nobody but themselves.

use crate::host::{HostSpec, NVME};
use crate::suite::{Case, Ctx, Failure, GuestInitrd, QUIET, TestResult, case, ensure};

pub(super) fn all() -> Vec<Case> {
    let host = HostSpec::default;
    vec![
        case("hostile/rings and registers of garbage", host(), |ctx| attack(ctx, 1..2, 60, 4000)),
        case("long/ten seeds of garbage", host(), |ctx| attack(ctx, 2..12, 200, 20_000)),
    ]
}

const SOCKET: &str = "/tmp/hostile.sock";
/// What vmm may hold besides guest memory, in KiB: nothing grows with what a guest asks for.
const MOST_KIB: u64 = 24 << 10;
/// What it may say of all of it, in bytes.
const MOST_SAID: usize = 64 << 10;

/// The drive is read while the others are attacked; then they have to work again with drivers that mean well. The last attack
/// may leave a guest that no longer says anything.
const SCRIPT: &str = r"
    cd /sys/bus/pci/drivers/virtio-pci; all=$(ls -d 0*)
    works() {
        head -c 4096 /dev/hwrng | wc -c | sed 's/^/random /'
        dd if=/dev/vda of=/dev/null bs=64k count=4 iflag=direct 2>&1 | grep -c '4+0 records out' | sed 's/^/read /'
    }
    sum() { dd if=/dev/nvme0n1 bs=64k count=16 iflag=direct 2>/dev/null | sha256sum; }
    works; sum; echo before; read what
    for d in $all; do echo $d > unbind; done
    sum & hostile rings SEED ROUNDS 0xc000000; wait
    for d in $all; do echo $d > bind; done
    until (: < /dev/vda) 2>/dev/null; do usleep 20000; done
    works; sum; echo after; read what
    for d in $all; do echo $d > unbind; done
    hostile registers SEED COUNT
    echo it is over; read what";

/// What a process has open, how many threads it has, and how much memory is its own.
const HELD: &str = "p=$(pidof vmm); echo $(ls /proc/$p/fd | wc -l) $(ls /proc/$p/task | wc -l) $(grep RssAnon /proc/$p/status)";

fn held(ctx: &Ctx) -> TestResult<(u64, u64, u64)> {
    let said = ctx.run(HELD).expect_success()?.stdout;
    let numbers: Vec<u64> = said.split_whitespace().flat_map(str::parse).collect();
    let [descriptors, threads, kib] = numbers[..] else {
        return Err(Failure::new(format!("vmm is gone: {said}")));
    };
    ensure!(kib < MOST_KIB, "it holds {kib} KiB");
    Ok((descriptors, threads, kib))
}

fn attack(ctx: &Ctx, seeds: std::ops::Range<u64>, rounds: u32, count: u32) -> TestResult {
    let hostile = ctx.get(&ctx.program("hostile")?)?;
    ctx.run("truncate -s 4M /tmp/hostile.img").expect_success()?;
    for seed in seeds {
        let script = SCRIPT
            .replace("SEED", &seed.to_string())
            .replace("ROUNDS", &rounds.to_string())
            .replace("COUNT", &count.to_string());
        let initrd = GuestInitrd::with_script(ctx.artefacts, &script)?.file("bin/hostile", &hostile)?;
        ctx.put("/tmp/guest.cpio", &initrd.build()?)?;
        one(ctx)?;
    }
    ctx.run("rm /tmp/hostile.img /tmp/guest.cpio").expect_success()?;
    Ok(())
}

fn one(ctx: &Ctx) -> TestResult {
    let cmdline = QUIET.replace("quiet", r"quiet\ memmap=4M\$0xc000000");
    let command = format!(
        "vmm run {cmdline} --memory 256M --cpus 2 --initrd /tmp/guest.cpio --api-socket {SOCKET} --vfio {NVME} \
         --pcie-ports 1 --rng --disk /tmp/hostile.img --net tap9,create --vsock /tmp/hostile.vsock --console socket=/tmp/hostile.hvc --on-panic stop"
    );
    let mut guest = ctx.run(&command).deadline(1200).start()?;
    let works = ["random 4096", "read 1", &ctx.artefacts.disk.sha256(1 << 20)?];
    let said = guest.wait_for("\nbefore")?;
    ensure!(works.iter().all(|sign| said.contains(sign)), "not all devices work: {said}");
    let before = held(ctx)?;
    guest.send("rings\n");
    let said = guest.wait_for("\nafter")?;
    ensure!(said.contains("hostile: "), "the attack did not take place: {said}");
    ensure!(said.matches(works[2]).count() == 2, "the drive did not work meanwhile: {said}");
    ensure!(works.iter().all(|sign| said.contains(sign)), "not all devices work any more: {said}");
    let after = held(ctx)?;
    ensure!(
        (before.0, before.1) == (after.0, after.1),
        "descriptors and threads: {before:?}, then {after:?}"
    );
    guest.send("registers\n");
    // A guest that has put its own interrupts out of order is not heard of any more.
    guest.prints_within(180, "it is over");
    held(ctx)?;
    ctx.run(&format!("vmm ctl -s {SOCKET} ping")).expect_success()?;
    ctx.run(&format!("vmm ctl -s {SOCKET} shutdown-vmm")).expect_success()?;
    let guest = guest.finish()?;
    ensure!(guest.status == 0, "it ended with status {}", guest.status);
    ensure!(guest.stderr.len() < MOST_SAID, "it said {} bytes", guest.stderr.len());
    // The drive is as it was.
    ctx.run(&format!("vmm check --vfio {NVME}")).expect_success()?;
    Ok(())
}
