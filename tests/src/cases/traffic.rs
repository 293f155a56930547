//! Passed-through devices under load, with every byte checked: a drive written and read at random, and TCP both ways
//! between a guest's NIC and one of the host's on the same wire, or a program beside QEMU.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};

use super::extra;
use crate::host::{HostSpec, NIC, NVME};
use crate::process;
use crate::suite::{Case, Ctx, Failure, GuestInitrd, QUIET, TestResult, case, ensure};

pub(super) fn all() -> Vec<Case> {
    // What is written to the drive stays while the host runs: these share it with nobody.
    let narrow = || HostSpec::default().one_cpu().aw_bits(39).append("lab.scratch");
    let wide = || wire(HostSpec::default().one_cpu().append("lab.scratch"));
    vec![
        case("long/64 MiB of a drive at random, container, 39 bits", narrow(), |ctx| drive(ctx, "container")),
        case("traffic/64 MiB of a drive at random, iommufd, 48 bits", wide(), |ctx| drive(ctx, "iommufd")),
        case("traffic/TCP both ways through an e1000e, container, 48 bits", wide(), |ctx| {
            tcp_out(ctx, "container")
        }),
        case("long/TCP both ways through an e1000e, iommufd, 39 bits", narrow(), |ctx| {
            tcp_out(ctx, "iommufd")
        }),
        case("traffic/TCP both ways through a virtio-net, iommufd", wide(), |ctx| {
            tcp(ctx, VIRTIO, INTEL, "iommufd")
        }),
    ]
}

/// An Intel 82574L and a virtio-net behind the IOMMU, plugged into one hub.
const INTEL: &str = "0000:00:0c.0";
const VIRTIO: &str = "0000:00:0d.0";

fn wire(host: HostSpec) -> HostSpec {
    host.qemu("-netdev hubport,hubid=1,id=left -device e1000e,netdev=left,addr=0xc,mac=52:54:00:00:00:0c")
        .qemu("-netdev hubport,hubid=1,id=right")
        .qemu("-device virtio-net-pci,netdev=right,addr=0xd,mac=52:54:00:00:00:0d,romfile=,disable-legacy=on,iommu_platform=on")
}

/// The command of a guest that has the exercise at hand.
fn guest(ctx: &Ctx, device: &str, backend: &str, script: &str) -> TestResult<String> {
    let exercise = ctx.get(&ctx.program("exercise")?)?;
    let initrd = GuestInitrd::with_script(ctx.artefacts, &format!("{script}\npoweroff -f"))?;
    ctx.put("/tmp/guest.cpio", &initrd.file("bin/exercise", &exercise)?.build()?)?;
    Ok(format!(
        "vmm -v run {QUIET} --vfio {device},backend={backend} --memory 256M --cpus 2 --initrd /tmp/guest.cpio; \
         status=$?; rm /tmp/guest.cpio; exit $status"
    ))
}

fn drive(ctx: &Ctx, backend: &str) -> TestResult {
    let script = "exercise disk /dev/nvme0n1 64; grep nvme0q /proc/interrupts";
    let output = ctx.run(&guest(ctx, NVME, backend, script)?).deadline(400).expect_success()?;
    output.stderr_contains(&format!("devices opened backend={backend} "))?;
    output.stdout_contains("exercised: 2560 writes and 2048 reads of 32768 bytes on /dev/nvme0n1")?;
    // Its completions came as interrupts, on more than one CPU's queue.
    for queue in ["nvme0q1", "nvme0q2"] {
        ensure!(interrupts(output.line_with(queue)?) > 100, "few interrupts of {queue}");
    }
    Ok(())
}

fn interrupts(line: &str) -> u64 {
    line.split_whitespace().skip(1).map_while(|word| word.parse::<u64>().ok()).sum()
}

fn tcp(ctx: &Ctx, guests: &str, hosts: &str, backend: &str) -> TestResult {
    let exercise = ctx.program("exercise")?;
    extra::give_back(ctx, hosts)?;
    extra::bind(ctx, &[guests])?;
    let script = "ip link set eth0 up; until grep -q 1 /sys/class/net/eth0/carrier; do :; done 2>/dev/null
        ip addr add 10.9.0.2/24 dev eth0; echo the link is up; exercise connect 10.9.0.1 5000 16";
    let mut guest = ctx.run(&guest(ctx, guests, backend, script)?).deadline(400).start()?;
    // QEMU's hub does not get over it if one side sends before the other is up.
    guest.wait_for("the link is up")?;
    let up = format!(
        "name=$(ls -d /sys/bus/pci/devices/{hosts}/net/* /sys/bus/pci/devices/{hosts}/virtio*/net/* 2>/dev/null)
         name=${{name##*/}}; ip link set $name up && ip addr replace 10.9.0.1/24 dev $name"
    );
    ctx.run(&up).expect_success()?;
    let server = ctx.run(&format!("{exercise} serve 5000 16")).deadline(400).expect_success()?;
    server.stdout_contains("exercised: 16 MiB each way")?;
    let guest = guest.finish()?;
    ensure!(guest.status == 0, "the guest ended with status {}", guest.status);
    guest.stdout_contains("exercised: 16 MiB each way")?;
    guest.stderr_contains(&format!("devices opened backend={backend} "))?;
    extra::give_back(ctx, guests)
}

/// The other end of a connection, beside QEMU, whose user network leads to this machine's loopback as 10.0.2.2.
struct Peer {
    program: Child,
    printed: BufReader<ChildStdout>,
    port: String,
}

impl Peer {
    /// One that exchanges so many MiB with whoever connects.
    fn start(ctx: &Ctx, mib: u32) -> TestResult<Peer> {
        let mut command = Command::new(ctx.product.program("exercise"));
        command.args(["serve", "0", &mib.to_string()]).stdin(Stdio::null()).stdout(Stdio::piped());
        process::bound_to_this_thread(&mut command, Vec::new());
        let mut program = command.spawn()?;
        let Some(stdout) = program.stdout.take() else {
            return Err(Failure::new("the peer has no standard output"));
        };
        let mut printed = BufReader::new(stdout);
        let mut line = String::new();
        printed.read_line(&mut line)?;
        let port = line.trim().rsplit(' ').next().unwrap_or_default().to_owned();
        Ok(Peer { program, printed, port })
    }

    /// Waits for its end, which is near: the exchange is over. Gives what it printed.
    fn finish(mut self) -> TestResult<String> {
        let mut text = String::new();
        self.printed.read_to_string(&mut text)?;
        let status = self.program.wait()?;
        ensure!(status.success(), "the peer ended with {status}: {text}");
        Ok(text)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Either fails only for a program that is no more.
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

fn tcp_out(ctx: &Ctx, backend: &str) -> TestResult {
    let peer = Peer::start(ctx, 16)?;
    let script = format!(
        "ip link set eth0 up; ip addr add 10.0.2.15/24 dev eth0; exercise connect 10.0.2.2 {} 16; \
         grep eth0 /proc/interrupts",
        peer.port
    );
    let output = ctx.run(&guest(ctx, NIC, backend, &script)?).deadline(400).expect_success()?;
    output.stdout_contains("exercised: 16 MiB each way")?;
    output.stderr_contains(&format!("devices opened backend={backend} "))?;
    let received: u64 = output.stdout.lines().filter(|line| line.contains("eth0-")).map(interrupts).sum();
    ensure!(received > 100, "few interrupts of the NIC: {received}");
    let text = peer.finish()?;
    ensure!(text.contains("exercised: 16 MiB each way"), "the peer says {text:?}");
    Ok(())
}
