//! What vmm has given up when its guest runs.

use crate::host::{HostSpec, NVME};
use crate::suite::{Case, Ctx, GuestInitrd, QUIET, TestResult, case, ensure, tiny_kernel};

pub(super) fn all() -> Vec<Case> {
    vec![
        case("sandbox/threads have what they need", HostSpec::default(), rights),
        case(
            "sandbox/a process is whom it was told to be, and reaches what it was told of",
            HostSpec::default(),
            identity,
        ),
    ]
}

/// A line for each thread, and one for each mapping of guest memory.
const LOOK: &str = r#"
    cd /proc/$(pidof vmm)
    for task in task/*; do
        echo "$(cat $task/comm)" $(grep -E '^(CapEff|NoNewPrivs|Seccomp):' $task/status | tr -d '\t ')
    done
    sed -n '/guest-ram/,/^VmFlags/p' smaps | grep ^VmFlags"#;

/// CAP_DAC_READ_SEARCH, CAP_IPC_LOCK, CAP_SYS_PTRACE, CAP_SYS_ADMIN and CAP_SYSLOG.
const PINNING: u64 = 1 << 2 | 1 << 14 | 1 << 19 | 1 << 21 | 1 << 34;

fn rights(ctx: &Ctx) -> TestResult {
    let initrd = GuestInitrd::with_script(ctx.artefacts, "echo the guest is up; read x; poweroff -f")?;
    ctx.put("/tmp/guest.cpio", &initrd.build()?)?;
    let flags =
        format!("--rng --vfio {NVME} --hotplug-memory 128M --events /tmp/events --api-socket /tmp/api.sock");
    let mut guest =
        ctx.run(&format!("vmm run {QUIET} --memory 128M --initrd /tmp/guest.cpio {flags}")).start()?;
    guest.wait_for("the guest is up")?;
    let seen = ctx.run(LOOK).expect_success()?;
    guest.send("\n");
    let guest = guest.finish()?;
    ensure!(guest.status == 0, "it ended with status {}", guest.status);
    for thread in ["vmm ", "api ", "events ", "vcpu0 ", "virtio-rng "] {
        let line = seen.line_with(thread)?;
        ensure!(line.contains("NoNewPrivs:1") && line.contains("Seccomp:2"), "not confined: {line}");
        let serves = ["events ", "vcpu0 ", "virtio-rng "].contains(&thread);
        ensure!(line.contains("CapEff:0000000000000000") == serves, "other capabilities: {line}");
    }
    let pins = seen.line_with("memory ")?;
    ensure!(pins.contains(&format!("CapEff:{PINNING:016x} NoNewPrivs:1 Seccomp:2")), "{pins}");
    // Of guest memory nothing is dumped.
    let mut mappings = seen.stdout.lines().filter(|line| line.starts_with("VmFlags")).peekable();
    ensure!(mappings.peek().is_some(), "guest memory is not seen: {}", seen.stdout);
    ensure!(mappings.all(|flags| flags.split_whitespace().any(|flag| flag == "dd")), "{}", seen.stdout);
    // Who wants none of it is told what that means.
    ctx.run("vmm run --sandbox off --kernel /none")
        .expect_status(2)?
        .stderr_contains("warning: --sandbox off: a guest that takes vmm over may do all")?;
    ctx.run("rm /tmp/guest.cpio /tmp/events").expect_success()?;
    Ok(())
}

/// Waits for ever, with interrupts off.
const WAITS: [u8; 3] = [0xf4, 0xeb, 0xfd];
const JAIL: &str = "/tmp/jail";
const SOCKET: &str = "/tmp/jail.sock";

fn identity(ctx: &Ctx) -> TestResult {
    ctx.run(&format!("mkdir -p {JAIL}/dev {JAIL}/proc {JAIL}/sys {JAIL}/run {JAIL}/images /tmp/others"))
        .expect_success()?;
    ctx.put(&format!("{JAIL}/kernel"), &tiny_kernel(&WAITS))?;
    ctx.run(&format!("cp {JAIL}/kernel {JAIL}/images")).expect_success()?;
    ctx.run(&format!("truncate -s 1M {JAIL}/images/disk /tmp/others/disk")).expect_success()?;
    settled(ctx)?;
    somebody(ctx)?;
    elsewhere(ctx)?;
    listed(ctx)?;
    ctx.run(&format!("rm -r {JAIL} /tmp/others")).expect_success()?;
    Ok(())
}

/// Starts a machine whose guest waits, gives what `look` prints once it runs, and stops it. Its start is read from its events.
fn look_at(ctx: &Ctx, before: &str, flags: &str, look: &str) -> TestResult<String> {
    let command = format!("{before} exec vmm run --initrd none --memory 64M --grace 0 --events fd=1 {flags}");
    let mut vmm = ctx.run(&command).start()?;
    vmm.wait_for("\"event\":\"running\"")?;
    let seen = ctx.run(&format!("cd /proc/$(pidof vmm); {look}")).expect_success()?.stdout;
    ctx.run("kill $(pidof vmm)").expect_success()?;
    let vmm = vmm.finish()?;
    ensure!(vmm.status == 0, "it ended with status {}", vmm.status);
    Ok(seen)
}

const STATUS: &str = "grep -E '^(Uid|Groups|CapPrm|CapEff):' status | tr -s '\t ' ' '";

/// Nobody can ask for more: whoever runs, the main thread too, is left with nothing that a start takes.
fn settled(ctx: &Ctx) -> TestResult {
    let flags =
        format!("--kernel {JAIL}/kernel --vfio {NVME} --disk {JAIL}/images/disk --vsock {JAIL}/vsock");
    let look = format!("{STATUS}; ls {JAIL}");
    let seen = look_at(ctx, "", &flags, &look)?;
    ensure!(seen.contains("Groups: \nCapPrm: 0000000000000000\nCapEff: 0000000000000000\n"), "{seen}");
    ensure!(seen.contains("vsock"), "{seen}");
    // What it made it has removed.
    ctx.run(&format!("ls {JAIL}/vsock")).expect_status(1)?;
    Ok(())
}

fn somebody(ctx: &Ctx) -> TestResult {
    let nodes = format!("/dev/kvm /dev/iommu /dev/vfio/devices/$(ls /sys/bus/pci/devices/{NVME}/vfio-dev)");
    ctx.run(&format!("chown 4711:4712 {nodes} {JAIL}/images/disk")).expect_success()?;
    let flags = format!(
        "--sandbox user=4711:4712 --kernel {JAIL}/kernel --vfio {NVME},backend=iommufd --disk {JAIL}/images/disk"
    );
    // The limit on locked memory is lifted on the way.
    let seen = look_at(ctx, "ulimit -l 64;", &flags, STATUS)?;
    ensure!(seen.starts_with("Uid: 4711 4711 4711 4711\nGroups: \nCapPrm: 0000000000000000\n"), "{seen}");
    let image = format!("vmm run --sandbox user=4711:4712 --kernel {JAIL}/kernel --disk /tmp/others/disk");
    ctx.run(&format!("chmod 600 /tmp/others/disk; {image}"))
        .expect_status(2)?
        .stderr_contains("Permission denied")?;
    ctx.run(&format!("chown 0:0 {nodes}")).expect_success()?;
    ctx.run("su -s /bin/sh nobody -c 'vmm run --sandbox user=4711:4712 --kernel /none'")
        .expect_status(3)?
        .stderr_contains("cannot go on as user 4711 and group 4712")?;
    Ok(())
}

fn elsewhere(ctx: &Ctx) -> TestResult {
    let mounts = format!("for it in dev proc sys; do mount --bind /$it {JAIL}/$it; done");
    ctx.run(&mounts).expect_success()?;
    let flags = format!("--sandbox chroot={JAIL} --kernel /kernel --vfio {NVME} --disk /images/disk");
    let seen = look_at(ctx, "", &flags, "readlink root")?;
    ensure!(seen == format!("{JAIL}\n"), "its root is {seen}");
    ctx.run(&format!("for it in dev proc sys; do umount {JAIL}/$it; done")).expect_success()?;
    ctx.run("vmm run --sandbox chroot=/none --kernel /none")
        .expect_status(3)?
        .stderr_contains("cannot make /none the root directory")?;
    Ok(())
}

/// Clients name files, of which some are allowed.
fn listed(ctx: &Ctx) -> TestResult {
    let images = format!("{JAIL}/images");
    let vmm = ctx.run(&format!("exec vmm --api-socket {SOCKET} --sandbox allow={images} 2>&1"));
    let mut vmm = vmm.start()?;
    vmm.wait_for("waiting for a machine to be created")?;
    let create = |disk: &str| {
        let machine = format!(
            r#"{{"payload":{{"kernel":"{JAIL}/images/kernel"}},"memory":{{"size":67108864}},"disks":[{{"path":"{disk}"}}]}}"#
        );
        format!(
            "vmm ctl -s {SOCKET} delete; echo '{machine}' | vmm ctl -s {SOCKET} create - && vmm ctl -s {SOCKET} boot"
        )
    };
    ctx.run(&create("/tmp/others/disk")).expect_status(1)?.stderr_contains("Permission denied")?;
    ctx.run(&create(&format!("{images}/disk"))).expect_success()?;
    ctx.run(&format!("vmm ctl -s {SOCKET} shutdown-vmm")).expect_success()?;
    let vmm = vmm.finish()?;
    ensure!(vmm.status == 0, "it ended with status {}", vmm.status);
    ctx.run(&format!("ls {SOCKET}")).expect_status(1)?;
    Ok(())
}
