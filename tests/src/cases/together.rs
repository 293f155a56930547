//! All devices at once, two of them the host's own: each does its work at each of many boots, and nothing is left behind by those before.

use super::net::make_tap;
use super::soak::held;
use crate::host::{HostSpec, NIC, NVME};
use crate::suite::{Case, Ctx, GuestInitrd, QUIET, TestResult, case, ensure};

pub(super) fn all() -> Vec<Case> {
    let host = HostSpec::default;
    vec![
        case("soak/a reboot with a device of each kind", host(), |ctx| reboots(ctx, 1, 1, Kernel::OfGuests)),
        case("long/30 reboots with a device of each kind", host(), |ctx| {
            reboots(ctx, 30, 2, Kernel::OfHosts)
        }),
    ]
}

/// What the guest runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kernel {
    /// The small one, which knows no persistent memory.
    OfGuests,
    /// One that does.
    OfHosts,
}

const PLACE: &str = "/tmp/together";
/// Connections over vsock at each boot, and MiB over each.
const CONNECTIONS: u32 = 2;
/// What is in the shared directory.
const SHARED: &str = "what the host shares";

/// What a guest does: something with each device, and says so. The watchdog is taken up and left.
const GUEST: &str = r#"
    interrupts() { awk -v of="$1" '$0 ~ of { for (i = 2; i <= NF; i++) if ($i ~ /^[0-9]+$/) n += $i } END { print n + 0 }' /proc/interrupts; }
    reaches() { ip link set $1 up; ip addr add $2.15/24 dev $1; ping -c 1 -w 60 $3 > /dev/null && echo $3 answers; }
    vsock talk vsock:1234 CONNECTIONS 1024
    until (: < /dev/nvme0n1) 2>/dev/null; do usleep 20000; done
    echo drive $(dd if=/dev/nvme0n1 bs=1M count=1 iflag=direct 2>/dev/null | sha256sum)
    nic=$(basename /sys/bus/pci/drivers/e1000e/0*/net/*); reaches $nic 10.0.2 10.0.2.2
    for n in 0 1; do reaches $(grep -l 02:00:00:00:00:0$n /sys/class/net/*/address | cut -d / -f 5) 10.7.$n 10.7.$n.1; done
    for disk in vda vdb pmem0; do [ ! -b /dev/$disk ] || exercise disk /dev/$disk 1; done
    echo random $(head -c 4096 /dev/hwrng | wc -c)
    mkdir -p /share; mount -t virtiofs share /share; cat /share/shared; echo booted >> /share/boots
    echo heard > /dev/hvc0
    printf V > /dev/watchdog && echo the watchdog is there
    [ $(interrupts nvme0q) -gt 1 ] && [ $(interrupts $nic) -gt 1 ] && echo both raise interrupts
    echo done; read what; [ "$what" != reboot ] || reboot -f
    echo c > /proc/sysrq-trigger"#;

fn reboots(ctx: &Ctx, rounds: u32, cpus: u32, kernel: Kernel) -> TestResult {
    let (vsock, exercise, image) = (ctx.program("vsock")?, ctx.program("exercise")?, ctx.program("image")?);
    let virtiofsd = ctx.daemon("virtiofsd")?;
    let script = GUEST.replace("CONNECTIONS", &CONNECTIONS.to_string());
    let initrd = GuestInitrd::with_script(ctx.artefacts, &script)?
        .file("bin/vsock", &ctx.get(&vsock)?)?
        .file("bin/exercise", &ctx.get(&exercise)?)?;
    let make = format!(
        "mkdir -p {PLACE}/share && cd {PLACE} && truncate -s 4M raw && {image} qcow2 4194304 && echo {SHARED} > share/shared"
    );
    ctx.run(&make).expect_success()?;
    ctx.put(&format!("{PLACE}/guest.cpio"), &initrd.build()?)?;
    let mut more = "";
    if kernel == Kernel::OfHosts {
        ctx.put_host_kernel(&format!("{PLACE}/vmlinux"))?;
        ctx.run(&format!("truncate -s 4M {PLACE}/pmem")).expect_success()?;
        more = "--kernel vmlinux --pmem pmem";
    }
    make_tap(ctx, "tap0", "", "10.7.0.1")?;
    make_tap(ctx, "tap1", "", "10.7.1.1")?;
    let daemon = format!("{virtiofsd} --socket-path fs --shared-dir share --sandbox chroot 2>&1");
    let mut daemon = ctx.run(&format!("cd {PLACE}; {daemon}")).deadline(3600).start()?;
    daemon.wait_for("Waiting for vhost-user socket connection")?;
    let connections = CONNECTIONS * (rounds + 1);
    let echo = format!("{vsock} echo unix:{PLACE}/vsock_1234 {connections}");
    let mut echo = ctx.run(&echo).deadline(3600).start()?;
    echo.wait_for("listening")?;
    let mut guest = ctx
        .run(&format!(
            "cd {PLACE}; exec vmm run {QUIET} --memory 256M --cpus {cpus} --initrd guest.cpio --vfio {NVME} --vfio {NIC} \
             --disk raw --disk qcow2,format=qcow2,packed --net tap0,mac=02:00:00:00:00:00 \
             --net tap1,mac=02:00:00:00:00:01,packed --rng --console file=hvc --vsock vsock --fs fs,tag=share \
             --watchdog stop --on-panic stop {more}"
        ))
        .deadline(3600)
        .start()?;
    let drive = format!("drive {}", ctx.artefacts.disk.sha256(1 << 20)?);
    let pmem = "40 writes and 32 reads of 32768 bytes on /dev/pmem0";
    let signs = [
        "2097152 bytes there and back",
        &drive,
        "10.0.2.2 answers",
        "10.7.0.1 answers",
        "10.7.1.1 answers",
        "40 writes and 32 reads of 32768 bytes on /dev/vda",
        "40 writes and 32 reads of 32768 bytes on /dev/vdb",
        "random 4096",
        SHARED,
        "the watchdog is there",
        "both raise interrupts",
    ];
    let mut first = String::new();
    for round in 0..=rounds {
        let said = guest.wait_for("\ndone")?;
        for sign in signs {
            ensure!(said.contains(sign), "boot {round}: no {sign:?} in {said}");
        }
        ensure!(more.is_empty() || said.contains(pmem), "boot {round}: no {pmem:?} in {said}");
        let now = held(ctx)?;
        if round == 0 {
            first = now.clone();
        }
        ensure!(now == first, "after reboot {round} there is\n{now}\ninstead of\n{first}");
        guest.send(if round < rounds { "reboot\n" } else { "panic\n" });
    }
    let guest = guest.finish()?;
    ensure!(guest.status == 1, "it ended with status {}", guest.status);
    guest.stderr_contains("error: the guest has panicked\n")?;
    ensure!(!guest.stderr.contains("virtio device stops"), "{}", guest.stderr);
    // It ends with its connection, and the other with the last one.
    daemon.finish()?;
    echo.finish()?.stdout_contains(&format!("over {connections} connections"))?;
    let count = format!("cd {PLACE}; grep -c booted share/boots; grep -c heard hvc");
    let counted = ctx.run(&count).expect_success()?.stdout;
    ensure!(counted.split_whitespace().all(|count| count == (rounds + 1).to_string()), "counted: {counted}");
    ctx.run(&format!("rm -r {PLACE}; ip link del tap0; ip link del tap1")).expect_success()?;
    Ok(())
}
