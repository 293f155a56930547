//! The unit that is shipped, under a real systemd, on a kernel that can do all that it asks for: it starts a machine with a
//! passed-through device, confines it, and ends it by its power button.

use crate::host::{HostKernel, HostSpec, NVME};
use crate::suite::{Case, Ctx, Failure, Output, TestResult, case, ensure};

pub(super) fn all() -> Vec<Case> {
    // The lab's own kernel has no BPF, which device policies and address families are made of.
    let host = || HostSpec::default().kernel(HostKernel::Debian);
    vec![case(
        "service/systemd starts a machine, confines it and stops it by its power button",
        host().one_cpu(),
        unit,
    )]
}

const UNIT: &[u8] = include_bytes!("../../../packaging/systemd/vmm@.service");
const SERVICE: &str = "vmm@web.service";
/// The control group that stands for the root of the system that systemd runs.
const GROUP: &str = "/sys/fs/cgroup/lab-systemd";

/// Puts systemd and our unit into the host, with the built-in guest as an initrd of its own: its console is the journal, where
/// nobody types, and it heeds its power button.
const INSTALL: &str = "set -e
    tar -x -f /lab/systemd.tar -C /
    mkdir -p /etc/vmm /usr/bin /var/lib/vmm /var/tmp
    ln -sf /bin/vmm /usr/bin/vmm
    echo 0123456789abcdef0123456789abcdef > /etc/machine-id
    chmod 644 /usr/lib/systemd/system/*.*
    mkdir -p /tmp/guest/dev /tmp/guest/proc /tmp/guest/sys /tmp/guest/tmp
    cp /bin/vmm /tmp/guest/init
    cp -a /dev/console /dev/null /tmp/guest/dev
    cd /tmp/guest
    find . | cpio -o -H newc > /var/lib/vmm/initrd.img
    rm -r /tmp/guest /lab/systemd.tar";

/// As process 1 of a container, below a control group of its own.
const START: &str = "mkdir GROUP && echo $$ > GROUP/cgroup.procs && exec env -i container=lab PATH=/usr/bin:/bin \
    unshare --pid --fork --mount --mount-proc /usr/lib/systemd/systemd --system --log-target=journal --show-status=no";

/// Runs a command in that container.
fn inside(ctx: &Ctx, command: &str) -> TestResult<Output> {
    ctx.run(&format!("nsenter -t $(pidof systemd) -m -p {command}")).output()
}

fn succeeds(ctx: &Ctx, command: &str) -> TestResult<Output> {
    let output = inside(ctx, command)?;
    ensure!(output.status == 0, "`{command}` ended with status {}", output.status);
    Ok(output)
}

fn unit(ctx: &Ctx) -> TestResult {
    ctx.put("/lab/systemd.tar", &std::fs::read(ctx.artefacts.systemd.archive())?)?;
    ctx.run("mkdir -p /usr/lib/systemd/system").expect_success()?;
    ctx.put("/usr/lib/systemd/system/vmm@.service", UNIT)?;
    ctx.run(INSTALL).expect_success()?;
    let machine = format!(
        "memory = \"128M\"\nkernel = \"/boot/vmlinuz-{}\"\ninitrd = \"/var/lib/vmm/initrd.img\"\n\
         cmdline = \"console=ttyS0 quiet\"\nvfio = \"{NVME}\"\n",
        ctx.artefacts.kernel.release
    );
    ctx.put("/etc/vmm/web.toml", machine.as_bytes())?;
    let systemd = ctx.run(&START.replace("GROUP", GROUP)).deadline(240).start()?;
    let ready = "until [ -S /proc/$(pidof systemd)/root/run/systemd/private ]; do usleep 100000; done";
    ctx.run(ready).deadline(60).expect_success()?;
    let known = succeeds(ctx, "systemd-analyze verify --man=no vmm@web.service")?;
    ensure!(known.stderr.is_empty(), "systemd finds fault with the unit: {}", known.stderr);

    succeeds(ctx, &format!("systemctl start {SERVICE}"))?;
    let mut journal = ctx
        .run(&format!("nsenter -t $(pidof systemd) -m -p journalctl -f -n all -o cat -u {SERVICE}"))
        .deadline(90)
        .start()?;
    journal.wait_for(&format!("pinned 128 MiB for {NVME}: "))?;
    journal.wait_for(&format!("sha256 {}", ctx.artefacts.disk.sha256(8 << 20)?))?;
    journal.wait_for("summary complete")?;
    confined(ctx)?;

    let stop = succeeds(ctx, &format!("systemctl stop {SERVICE}"))?;
    // The guest takes a second or two; systemd would take 45 s to lose patience.
    stop.within(25.0)?;
    journal.wait_for("Deactivated successfully")?;
    let said = journal.kill()?;
    // The guest may have answered before vmm says that it was asked.
    for line in [
        "vmm: SIGTERM: the guest has 30s to power off",
        "the power button was pressed",
        "vmm: the guest powered off",
    ] {
        said.stdout_contains(line)?;
    }
    said.stdout_lacks("SIGKILL")?.stdout_lacks("stopped by")?;
    let state = succeeds(ctx, &format!("systemctl show -p Result -p ActiveState {SERVICE}"))?;
    state.stdout_contains("Result=success\n")?.stdout_contains("ActiveState=inactive\n")?;
    // It is given back: nobody has its group open, and another machine could have it.
    ctx.run(&format!("! pidof vmm && vmm check --memory 128M --vfio {NVME}")).expect_success()?;
    // What is remembered of devices outlives the machine, its socket does not.
    ctx.run("test -d /run/vmm && ! test -e /run/vmm/web.sock").expect_success()?;

    // All of it ends with its process 1.
    ctx.run("kill -9 $(pidof systemd)").expect_success()?;
    systemd.finish()?;
    let groups = format!("find {GROUP} -depth -type d | xargs rmdir");
    ctx.run(&format!("{groups}; rm -r /run/vmm /run/systemd /run/log /etc/vmm /var/lib/vmm"))
        .expect_success()?;
    Ok(())
}

/// What the unit forbids is forbidden, seen from its control group and its view of the files.
fn confined(ctx: &Ctx) -> TestResult {
    let status = ctx
        .run(
            "grep -E 'CapBnd|CapEff|NoNewPrivs|Seccomp:' /proc/$(pidof vmm)/status; \
                          grep 'locked memory' /proc/$(pidof vmm)/limits",
        )
        .expect_success()?;
    // CAP_DAC_OVERRIDE 1, NET_ADMIN 12, IPC_LOCK 14, SYS_PTRACE 19, SYS_ADMIN 21, SYS_RESOURCE 24, SYSLOG 34.
    let allowed: u64 = [1, 12, 14, 19, 21, 24, 34].iter().map(|bit| 1_u64 << bit).sum();
    for line in [format!("CapBnd:\t{allowed:016x}"), format!("CapEff:\t{allowed:016x}")] {
        status.stdout_contains(&line)?;
    }
    status.stdout_contains("NoNewPrivs:\t1")?.stdout_contains("Seccomp:\t2")?;
    let locked = status.line_with("locked memory")?;
    ensure!(locked.matches("unlimited").count() == 2, "{locked}");

    // /dev/mem can be opened by root, but not from the unit's control group.
    let group = "/sys/fs/cgroup$(cut -d : -f 3 /proc/$(pidof vmm)/cgroup)";
    let open = |device: &str| format!("sh -c 'echo $$ > {group}/cgroup.procs && exec 3< {device}'");
    ctx.run("exec 3< /dev/mem").expect_success()?;
    let refused = ctx.run(&open("/dev/mem")).output()?;
    ensure!(refused.status != 0, "the unit lets /dev/mem be opened");
    refused.stderr_contains("Operation not permitted")?;
    ctx.run(&open("/dev/kvm")).expect_success()?;

    let view = |command: &str| format!("nsenter -t $(pidof vmm) -m sh -c '{command}'");
    for path in ["/usr", "/boot", "/etc", "/sys/fs/cgroup"] {
        let write = ctx.run(&view(&format!("mkdir {path}/written"))).output()?;
        if !write.stderr.contains("Read-only file system") {
            return Err(Failure::new(format!("{path} can be written to, or something else is wrong")));
        }
    }
    ctx.run(&view("echo 1 > /proc/sys/vm/compact_memory"))
        .output()?
        .stderr_contains("Read-only file system")?;
    for path in ["/tmp", "/var/lib/vmm", "/run/vmm"] {
        ctx.run(&view(&format!("mkdir {path}/written && rmdir {path}/written"))).expect_success()?;
    }
    Ok(())
}
