//! Network cards: TCP between a guest and its host through a tap, its limits, and what happens when the tap goes.

use std::time::Duration;

use crate::host::HostSpec;
use crate::suite::{Case, Ctx, Failure, GuestInitrd, QUIET, TestResult, case, ensure};

pub(super) fn all() -> Vec<Case> {
    let host = HostSpec::default;
    vec![
        case("net/TCP both ways through vhost-net", host(), |ctx| tcp(ctx, "vhost", 0)),
        case("net/TCP both ways through vmm's own threads", host(), |ctx| tcp(ctx, "vhost=off", 0)),
        case("long/TCP both ways through vhost-net, over 3 reboots", host(), |ctx| tcp(ctx, "vhost", 3)),
        case("long/TCP both ways through vmm's own threads, over 3 reboots", host(), |ctx| {
            tcp(ctx, "vhost=off", 3)
        }),
        case("net/limits hold in both directions, and every byte arrives", host(), limited),
        case("net/a tap that vanishes is a pulled cable", host(), vanishes),
        case("net/what is wrong with taps is said", host(), refusals),
    ]
}

/// Frames that are cut up to the MTU are no larger.
const WHOLE_FRAME: u64 = 1514;

/// A tap at an address of the host, made anew.
pub(super) fn make_tap(ctx: &Ctx, name: &str, how: &str, address: &str) -> TestResult {
    let tap = ctx.program("tap")?;
    let make = format!(
        "ip link del {name} 2>/dev/null; {tap} {name} {how} && ip link set {name} up && \
         ip addr add {address}/24 dev {name}"
    );
    ctx.run(&make).expect_success()?;
    Ok(())
}

/// Under traffic, which goes on until that is done, the rings of eth0 are made anew again and again, for which its driver resets
/// each queue by itself.
const RESIZED: &str = "n=0; rm -f /tmp/resized; traffic=/sys/class/net/eth0/statistics/rx_packets
        while [ $n -lt 6 ] && [ -d /proc/$talk ]; do
            read before < $traffic; now=$before
            until [ $now -gt $((before + 20)) ] || [ ! -d /proc/$talk ]; do usleep 10000; read now < $traffic; done
            resize eth0 $((128 << n % 2)) && n=$((n + 1)) || break
        done
        touch /tmp/resized; wait $talk && [ $n -eq 6 ] && echo rings were made anew";

/// Two cards, one with two pairs of queues, offloads and 64 connections and then one, whose frames grow large; one without
/// offloads and with one connection. If vmm serves them, the first has packed rings. After each reboot all of it is done again.
fn tcp(ctx: &Ctx, served: &str, reboots: usize) -> TestResult {
    make_tap(ctx, "tap0", "multi_queue", "10.8.0.1")?;
    make_tap(ctx, "tap1", "", "10.8.1.1")?;
    let packed = if served == "vhost" { 0 } else { 1 };
    let first = if packed == 1 { "packed" } else { served };
    let script = "ip link set eth0 up; ip addr add 10.8.0.2/24 dev eth0
        ip link set eth1 up; ip addr add 10.8.1.2/24 dev eth1
        echo the cards are $(cat /sys/class/net/eth0/address) $(cat /sys/class/net/eth1/mtu)
        echo queues: $(ls -d /sys/class/net/eth0/queues/rx-* | wc -l), eth1: $(ls -d /sys/class/net/eth1/queues/rx-* | wc -l)
        for n in 0 1; do cut -c 35 /sys/class/net/eth$n/device/features; done | xargs echo packed:
        exercise connect 10.8.0.1 5000 2 64 /tmp/resized & talk=$!
        RESIZED
        exercise connect 10.8.0.1 5002 2
        exercise connect 10.8.1.1 5001 1
        reboot -f";
    let (exercise, resize) = (ctx.program("exercise")?, ctx.program("resize")?);
    let initrd = GuestInitrd::with_script(ctx.artefacts, &script.replace("RESIZED", RESIZED))?
        .file("bin/exercise", &ctx.get(&exercise)?)?
        .file("bin/resize", &ctx.get(&resize)?)?;
    ctx.put("/tmp/net.cpio", &initrd.build()?)?;
    let command = format!(
        "vmm run {QUIET} --memory 128M --cpus 2 --initrd /tmp/net.cpio --net tap0,mac=02:00:5e:10:00:01,queues=2,{first} \
         --net tap1,mtu=1400,offloads=off,{served}"
    );
    let mut guest = ctx.run(&command).deadline(200).start()?;
    for _ in 0..=reboots {
        // Both listen while the guest boots: what it connects to is there.
        let mut many = ctx.run(&format!("{exercise} serve 5000 2 64")).deadline(240).start()?;
        many.wait_for("listening on 5000")?;
        let mut large = ctx.run(&format!("{exercise} serve 5002 2")).deadline(240).start()?;
        large.wait_for("listening on 5002")?;
        let mut one = ctx.run(&format!("{exercise} serve 5001 1")).deadline(240).start()?;
        one.wait_for("listening on 5001")?;
        guest.wait_for("the cards are 02:00:5e:10:00:01 1400")?;
        guest.wait_for("queues: 2, eth1: 1")?;
        guest.wait_for(&format!("packed: {packed} 0"))?;
        // While the guest exchanges data, its queues are served.
        let threads = ctx.run("grep -h virtio-net /proc/$(pidof vmm)/task/*/comm | sort -u").output()?.stdout;
        let ours = threads.lines().any(|thread| thread == "virtio-net");
        ensure!(ours == (served == "vhost=off"), "threads: {threads}");
        let said = ["2 MiB each way over 64", "2 MiB each way over 1", "1 MiB each way over 1"];
        for said in said {
            guest.wait_for(&format!("exercised: {said} connections"))?;
            if said.contains("over 64") {
                guest.wait_for("rings were made anew")?;
            }
        }
        for (server, said) in [many, large, one].into_iter().zip(said) {
            let output = server.finish()?;
            ensure!(output.status == 0, "a server ended with status {}", output.status);
            output.stdout_contains(&format!("exercised: {said} connections"))?;
        }
    }
    for direction in ["rx", "tx"] {
        let (whole, cut) = (frame_size(ctx, "tap0", direction)?, frame_size(ctx, "tap1", direction)?);
        ensure!(whole > WHOLE_FRAME, "frames of {whole} bytes with offloads, {direction}");
        ensure!(cut < WHOLE_FRAME, "frames of {cut} bytes without offloads, {direction}");
    }
    guest.kill()?;
    ctx.run("rm /tmp/net.cpio; ip link del tap0; ip link del tap1").expect_success()?;
    Ok(())
}

/// Bytes of the average frame that a tap has taken (rx, from the guest) or given.
fn frame_size(ctx: &Ctx, tap: &str, direction: &str) -> TestResult<u64> {
    let counters = format!(
        "cd /sys/class/net/{tap}/statistics && echo $(($(cat {direction}_bytes) / $(cat {direction}_packets)))"
    );
    Ok(ctx.run(&counters).expect_success()?.stdout.trim().parse()?)
}

/// A guest sends and receives 2 MiB at the same time, each direction limited to 1 MiB a second, by itself. Its tap is handed in.
fn limited(ctx: &Ctx) -> TestResult {
    make_tap(ctx, "tap0", "", "10.8.0.1")?;
    let script = "ip link set eth0 up; ip addr add 10.8.0.2/24 dev eth0
        until ping -c 1 -W 1 10.8.0.1 >/dev/null; do :; done
        read begun rest < /proc/uptime; exercise connect 10.8.0.1 5000 2; read done rest < /proc/uptime
        echo from $begun to $done; poweroff -f";
    let (exercise, tap) = (ctx.program("exercise")?, ctx.program("tap")?);
    let initrd =
        GuestInitrd::with_script(ctx.artefacts, script)?.file("bin/exercise", &ctx.get(&exercise)?)?;
    ctx.put("/tmp/net.cpio", &initrd.build()?)?;
    let mut server = ctx.run(&format!("{exercise} serve 5000 2")).deadline(240).start()?;
    server.wait_for("listening on 5000")?;
    let command = format!(
        "{tap} tap0 exec vmm run {QUIET} --memory 128M --initrd /tmp/net.cpio \
         --net fd=3,rx-rate={{bytes=1M,bytes-burst=100K,ops=2000,ops-burst=200}},tx-rate={{bytes=1M,bytes-burst=100K,ops=2000,ops-burst=200}}"
    );
    let guest = ctx.run(&command).deadline(200).expect_success()?;
    guest.stdout_contains("exercised: 2 MiB each way over 1 connections")?;
    ensure!(server.finish()?.status == 0, "the server was not content");
    let times = guest.stdout.lines().find_map(|line| line.trim().strip_prefix("from ")?.split_once(" to "));
    let Some((begun, done)) = times else {
        return Err(Failure::new("the guest does not tell how long it took"));
    };
    let took = Duration::try_from_secs_f64(done.parse::<f64>()? - begun.parse::<f64>()?)?;
    // 2 MiB less the burst of a tenth of a second and a frame of 64 KiB, each of which passes at once.
    ensure!(took > Duration::from_millis(1800), "2 MiB each way took {took:?} at 1 MiB a second");
    ctx.run("rm /tmp/net.cpio; ip link del tap0").expect_success()?;
    Ok(())
}

/// One card that the kernel serves, one that vmm serves, and one on a tap that vmm has made.
fn vanishes(ctx: &Ctx) -> TestResult {
    make_tap(ctx, "tap0", "", "10.8.0.1")?;
    make_tap(ctx, "tap1", "", "10.8.1.1")?;
    let script = "for n in 0 1; do ip link set eth$n up; ip addr add 10.8.$n.2/24 dev eth$n; done
        for n in 0 1; do until ping -c 1 -W 1 10.8.$n.1 >/dev/null; do :; done; done; echo the host answers
        for n in 0 1; do until grep -q 0 /sys/class/net/eth$n/carrier; do :; done; done; echo the cables are gone
        ping -c 1 -W 1 10.8.0.1 >/dev/null || ping -c 1 -W 1 10.8.1.1 >/dev/null || echo nobody answers
        poweroff -f";
    ctx.put("/tmp/net.cpio", &GuestInitrd::with_script(ctx.artefacts, script)?.build()?)?;
    let command = format!(
        "vmm run {QUIET} --memory 128M --initrd /tmp/net.cpio --net tap0 --net tap1,vhost=off --net tap2,create"
    );
    let mut guest = ctx.run(&command).deadline(200).start()?;
    guest.wait_for("the host answers")?;
    let busy = ctx.run("vmm run --net tap1").expect_status(3)?;
    busy.stderr_contains("the tap tap1 is in use by another process")?;
    ctx.run("ip link show tap2 | grep -q UP && ip link del tap0 && ip link del tap1").expect_success()?;
    let guest = guest.finish()?;
    ensure!(guest.status == 0, "vmm ended with status {}", guest.status);
    guest.stdout_contains("the cables are gone")?;
    guest.stdout_contains("nobody answers")?;
    let said = guest.stderr.matches("the tap is gone").count();
    ensure!(said == 2, "it is said {said} times that a tap is gone");
    ctx.run("rm /tmp/net.cpio; ! ip link show tap2").expect_success()?;
    Ok(())
}

fn refusals(ctx: &Ctx) -> TestResult {
    make_tap(ctx, "tap2", "", "10.8.2.1")?;
    let nets = "--net tap9 --net lo --net tap2,queues=2 --net tap3,mac=01:00:00:00:00:00 --net tap4,mtu=1 --net fd=9";
    let refused = ctx.run(&format!("vmm run {nets}")).expect_status(2)?;
    for said in [
        "there is no tap tap9",
        "ip tuntap add tap9 mode tap user",
        "the interface lo is not a tap",
        "the tap tap2 has one queue, not 2",
        "mac `01:00:00:00:00:00` is not the MAC address of a card",
        "an MTU of 1 is not 68 to 65521",
        "file descriptor 9 is not a tap: it is not open",
    ] {
        refused.stderr_contains(said)?;
    }
    let without = |change: &str, undo: &str, said: &str| -> TestResult {
        let command = format!(
            "{change}; su -s /bin/sh nobody -c 'vmm run --net tap2'; status=$?; {undo}; exit $status"
        );
        ctx.run(&command).expect_status(3)?.stderr_contains(said)?;
        Ok(())
    };
    let away = "mv /dev/net/away /dev/net/tun";
    without("mv /dev/net/tun /dev/net/away", away, "there is no /dev/net/tun")?;
    without("chmod 600 /dev/net/tun", "chmod 666 /dev/net/tun", "/dev/net/tun cannot be opened")?;
    without("true", "ip link del tap2", "the tap tap2 is not ours to use")?;
    Ok(())
}
