//! Guests that mean harm: what their root does with the devices they are given hurts nobody but themselves.

use crate::host::{HostSpec, NIC, NVME};
use crate::suite::{Case, Ctx, Failure, GuestInitrd, Interactive, QUIET, TestResult, case, ensure};

pub(super) fn all() -> Vec<Case> {
    let host = HostSpec::default;
    vec![
        case("hostile/rings, interrupts and registers of garbage", host(), |ctx| {
            passed_through(ctx, &[EVERY_DAY])
        }),
        case("hostile/a balloon, a share and a watchdog of garbage", host(), |ctx| {
            shared(ctx, &[Attack { rounds: 10, ..EVERY_DAY }])
        }),
        case("long/ten seeds of garbage", host(), |ctx| {
            let seeds: Vec<Attack> =
                (2..12).map(|seed| Attack { seed, rounds: 200, storms: 60, count: 20_000 }).collect();
            passed_through(ctx, &seeds)?;
            shared(ctx, &seeds)
        }),
    ]
}

/// How hard a guest tries.
#[derive(Clone, Copy)]
struct Attack {
    seed: u64,
    /// With rings of each device.
    rounds: u32,
    /// Of each kind of interrupt.
    storms: u32,
    /// Accesses to registers.
    count: u32,
}

const EVERY_DAY: Attack = Attack { seed: 1, rounds: 15, storms: 5, count: 1500 };

const SOCKET: &str = "/tmp/hostile.sock";
/// What vmm may hold besides guest memory, in KiB: nothing grows with what a guest asks for.
const MOST_KIB: u64 = 24 << 10;
/// What it may say of all of it, in bytes.
const MOST_SAID: usize = 64 << 10;

/// The drive is read while the others are attacked; then they have to work again with drivers that mean well. The last attack
/// may leave a guest that no longer says anything. What the kernel has to say of vectors that it does not know goes to its log only.
const PASSED_THROUGH: &str = r"
    cd /sys/bus/pci/drivers/virtio-pci; all=$(ls -d 0*)
    works() {
        head -c 4096 /dev/hwrng | wc -c | sed 's/^/random /'
        dd if=/dev/vda of=/dev/null bs=64k count=4 iflag=direct 2>&1 | grep -c '4+0 records out' | sed 's/^/read /'
    }
    sum() { dd if=/dev/nvme0n1 bs=64k count=16 iflag=direct 2>/dev/null | sha256sum; }
    works; sum; echo before; read what
    for d in $all; do echo $d > unbind; done
    echo 0000:00:01.0 > ../e1000e/unbind
    sum & hostile rings SEED ROUNDS 0xc000000; wait
    echo 0 > /proc/sys/kernel/printk
    sum & taskset 1 hostile interrupts SEED STORMS; wait
    echo 4 > /proc/sys/kernel/printk
    for d in $all; do echo $d > bind; done
    until (: < /dev/vda) 2>/dev/null; do usleep 20000; done
    works; sum; echo after; read what
    for d in $all; do echo $d > unbind; done
    hostile registers SEED COUNT
    echo it is over; read what";

/// What cannot be had beside a passed-through device, and what is served by somebody else.
const SHARED: &str = r"
    cd /sys/bus/pci/drivers/virtio-pci; all=$(ls -d 0*); mkdir /share
    works() { mount -t virtiofs share /share && cat /share/file && umount /share; }
    works; echo before; read what
    for d in $all; do echo $d > unbind; done
    hostile rings SEED ROUNDS 0xc000000; hostile watchdog SEED COUNT; echo attacked; read what
    for d in $all; do echo $d > bind; done
    works; echo after; read what
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

/// A guest that does this, but for `--memory` and all of its devices.
fn guest(ctx: &Ctx, script: &str, attack: &Attack) -> TestResult<String> {
    let hostile = ctx.get(&ctx.program("hostile")?)?;
    let Attack { seed, rounds, storms, count } = attack;
    let script = [
        ("SEED", seed.to_string()),
        ("ROUNDS", rounds.to_string()),
        ("STORMS", storms.to_string()),
        ("COUNT", count.to_string()),
    ]
    .iter()
    .fold(script.to_owned(), |script, (word, number)| script.replace(word, number));
    let initrd = GuestInitrd::with_script(ctx.artefacts, &script)?.file("bin/hostile", &hostile)?;
    ctx.put("/tmp/guest.cpio", &initrd.build()?)?;
    let cmdline = QUIET.replace("quiet", r"quiet\ memmap=4M\$0xc000000");
    Ok(format!("vmm run {cmdline} --memory 256M --initrd /tmp/guest.cpio --api-socket {SOCKET}"))
}

/// What vmm holds before the attacks.
fn before(ctx: &Ctx, guest: &mut Interactive, works: &[&str]) -> TestResult<(u64, u64, u64)> {
    let said = guest.wait_for("\nbefore")?;
    ensure!(works.iter().all(|sign| said.contains(sign)), "not all devices work: {said}");
    held(ctx)
}

/// The same after those that the guest survives, and what it has said.
fn after(ctx: &Ctx, guest: &mut Interactive, works: &[&str], before: (u64, u64, u64)) -> TestResult<String> {
    let said = guest.wait_for("\nafter")?;
    ensure!(works.iter().all(|sign| said.contains(sign)), "not all devices work any more: {said}");
    let after = held(ctx)?;
    ensure!(
        (before.0, before.1) == (after.0, after.1),
        "descriptors and threads: {before:?}, then {after:?}"
    );
    Ok(said)
}

/// Whether both attacks took place.
fn attacked(said: &str) -> TestResult {
    ensure!(said.matches("hostile: ").count() == 2, "an attack did not take place: {said}");
    Ok(())
}

/// The one that it may not survive, and the end.
fn last(ctx: &Ctx, mut guest: Interactive) -> TestResult {
    guest.send("on\n");
    // A guest that has put its own interrupts out of order is not heard of any more.
    guest.prints_within(180, "it is over");
    held(ctx)?;
    ctx.run(&format!("vmm ctl -s {SOCKET} ping")).expect_success()?;
    ctx.run(&format!("vmm ctl -s {SOCKET} shutdown-vmm")).expect_success()?;
    let guest = guest.finish()?;
    ensure!(guest.status == 0, "it ended with status {}", guest.status);
    ensure!(guest.stderr.len() < MOST_SAID, "it said {} bytes", guest.stderr.len());
    Ok(())
}

fn passed_through(ctx: &Ctx, attacks: &[Attack]) -> TestResult {
    ctx.run("truncate -s 4M /tmp/hostile.img").expect_success()?;
    let sum = ctx.artefacts.disk.sha256(1 << 20)?;
    for attack in attacks {
        let machine = guest(ctx, PASSED_THROUGH, attack)?;
        // One cannot be had beside the other.
        let odd = attack.seed % 2 == 1;
        let besides = if odd { ",iommu" } else { " --hotplug-memory 128M,plugged=64M" };
        let command = format!(
            "{machine} --cpus 2 --vfio {NIC}{besides} --vfio {NVME} --pcie-ports 1 --rng --disk /tmp/hostile.img --net tap9,create \
             --vsock /tmp/hostile.vsock --console socket=/tmp/hostile.hvc"
        );
        let mut guest = ctx.run(&command).deadline(400).start()?;
        let works = ["random 4096", "read 1", &sum];
        let held = before(ctx, &mut guest, &works)?;
        guest.send("on\n");
        let said = after(ctx, &mut guest, &works, held)?;
        attacked(&said)?;
        ensure!(said.matches(&sum).count() == 3, "the drive did not work meanwhile: {said}");
        last(ctx, guest)?;
        // The devices are as they were.
        ctx.run(&format!("vmm check --vfio {NVME} --vfio {NIC}")).expect_success()?;
    }
    ctx.run("rm /tmp/hostile.img /tmp/guest.cpio").expect_success()?;
    Ok(())
}

fn shared(ctx: &Ctx, attacks: &[Attack]) -> TestResult {
    let virtiofsd = ctx.daemon("virtiofsd")?;
    ctx.run("mkdir -p /tmp/share; echo in the share > /tmp/share/file; truncate -s 4M /tmp/hostile.pmem")
        .expect_success()?;
    let serve = |prefix: &str| {
        let command = format!(
            "rm -f /tmp/hostile.fs; while :; do {prefix} {virtiofsd} --socket-path /tmp/hostile.fs --shared-dir /tmp/share \
             --sandbox chroot --log-level off; done"
        );
        let daemon = ctx.run(&command).deadline(400).start()?;
        ctx.run("until [ -S /tmp/hostile.fs ]; do usleep 20000; done").expect_success()?;
        Ok::<_, Failure>(daemon)
    };
    let balloon = |size: &str, info: &str| {
        let ctl = format!("vmm ctl -s {SOCKET}");
        ctx.run(&format!(
            "{ctl} resize --balloon {size}; until {ctl} info | grep '{info}'; do usleep 100000; done"
        ))
        .expect_success()
    };
    let works = ["in the share"];
    for attack in attacks {
        // Each of them may take as long as a daemon lives.
        let machine = guest(ctx, SHARED, &Attack { rounds: attack.rounds / 6, ..*attack })?;
        let command = format!(
            "{machine} --balloon 0,free-page-reporting,statistics=100ms --vsock cid=9,vhost --pmem /tmp/hostile.pmem --hotplug-memory 128M,plugged=64M --fs socket=/tmp/hostile.fs,tag=share --watchdog stop"
        );
        let daemon = serve("")?;
        let mut guest = ctx.run(&command).deadline(400).start()?;
        let held = before(ctx, &mut guest, &works)?;
        daemon.kill()?;
        // One that is given garbage takes all of a CPU for ever, and no request; vmm goes on with the next one.
        let mortal = serve("timeout -s KILL 1")?;
        guest.send("on\n");
        attacked(&guest.wait_for("\nattacked")?)?;
        mortal.kill()?;
        let daemon = serve("")?;
        guest.send("on\n");
        after(ctx, &mut guest, &works, held)?;
        balloon("8M", "balloon    8 MiB of 8 MiB")?;
        balloon("0", "balloon    0 bytes of 0 bytes")?;
        last(ctx, guest)?;
        daemon.kill()?;
    }
    ctx.run("rm -r /tmp/share /tmp/hostile.fs* /tmp/guest.cpio").expect_success()?;
    Ok(())
}
