//! The machine's own virtio devices, as Linux drives them: over reboots, and with their drivers taken away at any moment.

use crate::host::{HostSpec, NVME};
use crate::suite::{Case, Ctx, Failure, GuestInitrd, QUIET, TestResult, case, ensure};

pub(super) fn all() -> Vec<Case> {
    let host = HostSpec::default;
    vec![
        case("virtio/an entropy device, its driver gone at any moment, beside a drive", host(), entropy),
        case("virtio/vsock: 32 connections each way, byte by byte", host(), |ctx| vsock(ctx, 1, 0, 256)),
        case("long/vsock of the kernel: 32 connections each way, over a reboot", host(), vsock_of_the_kernel),
        case("long/vsock, its driver gone at any moment", host(), |ctx| vsock(ctx, 2, 3, 1024)),
        case("long/vsock: 32 connections each way, 1 GiB over each set", host().one_cpu(), |ctx| {
            vsock(ctx, 1, 0, 32 << 10)
        }),
    ]
}

/// Reads go on while the driver is unbound in the middle of them, and while the function is reset under it.
const ENTROPY: &str = r#"
    cat /sys/class/misc/hw_random/rng_current
    for portion in 1 2; do head -c 8192 /dev/hwrng | sha256sum; done
    echo interrupts $(grep virtio0-input /proc/interrupts)
    cd /sys/bus/virtio/drivers/virtio_rng; pci=$(readlink -f virtio0/..)
    (while [ ! -e /stop ]; do head -c 4096 /dev/hwrng; done >/dev/null 2>&1) &
    for i in $(seq 6); do
        [ $((i % 3)) != 0 ] || echo 1 > $pci/reset
        echo virtio0 > unbind && echo virtio0 > bind && echo bound $i || echo lost it
    done
    : > /stop; wait
    head -c 8192 /dev/hwrng | wc -c | sed 's/^/afterwards /'
    [ ! -b /dev/nvme0n1 ] || dd if=/dev/nvme0n1 bs=64k count=16 iflag=direct 2>/dev/null | sha256sum
    echo done; read what; [ "$what" = reboot ] && reboot -f
    poweroff -f"#;

fn entropy(ctx: &Ctx) -> TestResult {
    ctx.put("/tmp/guest.cpio", &GuestInitrd::with_script(ctx.artefacts, ENTROPY)?.build()?)?;
    let drive = ctx.artefacts.disk.sha256(1 << 20)?;
    let command = format!("vmm run --rng --vfio {NVME} --memory 128M {QUIET} --initrd /tmp/guest.cpio");
    let mut guest = ctx.run(&command).deadline(400).start()?;
    for end in ["reboot\n", "poweroff\n"] {
        let said = guest.wait_for("\ndone")?;
        ensure!(
            said.contains("virtio_rng.0") && said.contains("afterwards 8192"),
            "not all was read: {said}"
        );
        ensure!(!said.contains("lost it"), "the driver did not come back: {said}");
        let sums: Vec<&str> = said.lines().filter_map(|line| line.trim_end().strip_suffix("  -")).collect();
        let [one, other, drives] = sums[..] else {
            return Err(Failure::new(format!("no checksums: {said}")));
        };
        ensure!(one != other, "the same bytes twice: {said}");
        ensure!(drives == drive, "the drive is not as it should be: {said}");
        let counted = said.lines().find_map(|line| line.split_once("interrupts ")).unwrap_or_default().1;
        let count: u64 = counted.split_whitespace().skip(1).take(2).flat_map(str::parse::<u64>).sum();
        ensure!(count > 100, "few interrupts: {counted}");
        guest.send(end);
    }
    let guest = guest.finish()?;
    ensure!(guest.status == 0, "it ended with status {}", guest.status);
    ensure!(!guest.stderr.contains("virtio device stops"), "{}", guest.stderr);
    ctx.run("rm /tmp/guest.cpio").expect_success()?;
    Ok(())
}

/// Connections at a time each way.
const CONNECTIONS: u32 = 32;
/// Seconds that all of it may take.
const DEADLINE: u64 = 1800;

/// Both directions at once; then the driver taken away in the middle of it; then as at first.
const VSOCK: &str = r#"
    vsock talk vsock:99 1 1024 2>&1
    cd $(readlink -f /sys/bus/virtio/devices/virtio0/driver)
    received() { n=0; for word in $(grep virtio0-rx /proc/interrupts); do case $word in *[!0-9]*) ;; *) n=$((n + word));; esac; done; }
    for round in $(seq ROUNDS); do
        read what
        vsock echo vsock:52 CONNECTIONS &
        vsock talk vsock:1234 CONNECTIONS KIB
        wait
        received; echo interrupts $n
        echo round done
        [ $round = ROUNDS ] || for again in $(seq TIMES); do
            received; before=$n
            vsock talk vsock:1235 1 1024000 2>&1 & talk=$!
            until received; [ $n -gt $((before + 20)) ]; do [ -d /proc/$talk ] || break; done
            echo virtio0 > unbind && echo virtio0 > bind || echo lost it
            wait
        done
    done
    poweroff -f"#;

/// So many KiB over each connection, there and back. The driver is taken away so many times, and then there is another round.
fn vsock(ctx: &Ctx, cpus: u32, times: u32, kib: u32) -> TestResult {
    let program = ctx.program("vsock")?;
    let rounds = if times == 0 { 1 } else { 2 };
    let script = VSOCK
        .replace("ROUNDS", &rounds.to_string())
        .replace("CONNECTIONS", &CONNECTIONS.to_string())
        .replace("KIB", &kib.to_string())
        .replace("TIMES", &times.to_string());
    let initrd = GuestInitrd::with_script(ctx.artefacts, &script)?;
    ctx.put("/tmp/guest.cpio", &initrd.file("bin/vsock", &ctx.get(&program)?)?.build()?)?;
    let command =
        format!("vmm run --vsock /tmp/vm.vsock --memory 256M --cpus {cpus} {QUIET} --initrd /tmp/guest.cpio");
    let mut guest = ctx.run(&command).deadline(DEADLINE).start()?;
    // A port of the host that nobody serves.
    guest.wait_for("reset by peer")?;
    // Who says nothing, or nonsense, is in nobody's way; who wants what is not there hears of it.
    let mut idle = ctx.run(&format!("{program} idle unix:/tmp/vm.vsock 50")).deadline(DEADLINE).start()?;
    idle.wait_for("idle")?;
    let mut cut_off =
        ctx.run(&format!("{program} echo unix:/tmp/vm.vsock_1235 {times}")).deadline(DEADLINE).start()?;
    cut_off.wait_for("listening")?;
    let moved = u64::from(CONNECTIONS * kib) << 10;
    for _ in 0..rounds {
        let server =
            format!("rm -f /tmp/vm.vsock_1234; {program} echo unix:/tmp/vm.vsock_1234 {CONNECTIONS}");
        let mut server = ctx.run(&server).deadline(DEADLINE).start()?;
        server.wait_for("listening")?;
        guest.send("on\n");
        guest.wait_for("listening at vsock:52")?;
        let client = format!("{program} talk bridge:/tmp/vm.vsock:52 {CONNECTIONS} {kib}");
        let talked = ctx.run(&client).deadline(DEADLINE).output()?;
        let said = guest.wait_for("round done")?;
        ensure!(talked.status == 0, "the guest's end of it: {said}");
        talked.stdout_contains(&format!("{moved} bytes there and back over {CONNECTIONS} connections"))?;
        for did in ["bytes there and back", "echoed"] {
            ensure!(said.contains(did), "the guest did not do its part: {said}");
        }
        server.finish()?.stdout_contains(&format!("echoed {moved} bytes over {CONNECTIONS} connections"))?;
    }
    let guest = guest.finish()?;
    ensure!(guest.status == 0, "it ended with status {}", guest.status);
    guest.stdout_lacks("lost it")?;
    ensure!(!guest.stderr.contains("virtio device stops"), "{}", guest.stderr);
    // Each of these was cut off by the driver, and they were no more.
    cut_off.finish()?;
    idle.finish()?;
    ctx.run("! ls /tmp/vm.vsock && rm /tmp/guest.cpio /tmp/vm.vsock_*").expect_success()?;
    Ok(())
}

/// Does what it is told until it is told to end.
const KERNELS: &str = r#"
    driver=$(readlink -f /sys/bus/virtio/devices/virtio0/driver)
    echo ready
    while read what; do
        case $what in
        [0-9]*)
            vsock echo vsock:52 $what &
            vsock talk vsock:1234 $what 1024
            wait
            echo round done;;
        bind) echo virtio0 > $driver/unbind && echo virtio0 > $driver/bind && echo bound;;
        reboot) reboot -f;;
        *) poweroff -f;;
        esac
    done"#;

/// The kernel serves it: both ways at once, again when the driver comes anew, and again after a reboot. Its address is nobody else's
/// meanwhile.
fn vsock_of_the_kernel(ctx: &Ctx) -> TestResult {
    let program = ctx.program("vsock")?;
    let initrd = GuestInitrd::with_script(ctx.artefacts, KERNELS)?;
    ctx.put("/tmp/guest.cpio", &initrd.file("bin/vsock", &ctx.get(&program)?)?.build()?)?;
    let command = "vmm run --vsock cid=7,vhost --memory 128M {QUIET} --initrd /tmp/guest.cpio";
    let command = command.replace("{QUIET}", QUIET);
    ctx.run(&format!("mv /dev/vhost-vsock /tmp/; {command}"))
        .expect_status(3)?
        .stderr_contains("there is no /dev/vhost-vsock")?
        .stderr_contains("modprobe vhost_vsock")?;
    ctx.run("mv /tmp/vhost-vsock /dev/").expect_success()?;
    let mut guest = ctx.run(&command).deadline(240).start()?;
    for (connections, next) in [(CONNECTIONS, "bind"), (2, "reboot"), (2, "poweroff")] {
        if next != "reboot" {
            guest.wait_for("ready")?;
        }
        let moved = u64::from(connections) << 20;
        let server = format!("{program} echo vsock:1234 {connections}");
        let mut server = ctx.run(&server).deadline(240).start()?;
        server.wait_for("listening")?;
        guest.send(format!("{connections}\n"));
        guest.wait_for("listening at vsock:52")?;
        let client = format!("{program} talk vsock:7:52 {connections} 1024");
        let talked = ctx.run(&client).deadline(240).output()?;
        let said = guest.wait_for("round done")?;
        ensure!(talked.status == 0, "the host's end of it: {}; the guest's: {said}", talked.stderr);
        talked.stdout_contains(&format!("{moved} bytes there and back over {connections} connections"))?;
        for did in ["bytes there and back", "echoed"] {
            ensure!(said.contains(did), "the guest did not do its part: {said}");
        }
        server.finish()?.stdout_contains(&format!("echoed {moved} bytes over {connections} connections"))?;
        if next == "bind" {
            ctx.run(&command)
                .expect_status(3)?
                .stderr_contains("the vsock address 7 is in use on this host")?;
        }
        guest.send(format!("{next}\n"));
        if next == "bind" {
            guest.wait_for("bound")?;
        }
    }
    let guest = guest.finish()?;
    ensure!(guest.status == 0, "it ended with status {}", guest.status);
    ensure!(!guest.stderr.contains("virtio device stops"), "{}", guest.stderr);
    ctx.run("rm /tmp/guest.cpio").expect_success()?;
    Ok(())
}
