//! What can be done to a guest that runs.

use super::devices::{IMAGE, image};
use super::{READY, SHELL, SOCKET, ctl, machine, number, shell};
use crate::host::HostSpec;
use crate::suite::{Case, Ctx, Failure, QUIET, SAYS_READY, TestResult, case, ensure};

pub(super) fn all() -> Vec<Case> {
    let host = || HostSpec::default().one_cpu();
    vec![
        case("api/a guest can be watched", host(), watched),
        case("api/a paused guest stands still, and so does its clock", host(), paused),
        case("api/the power button powers a guest off", host(), power_button),
        case("api/a signal asks the guest before it stops it", host(), signals),
        case("api/a guest is reset, and interrupted, by request", host(), reset_and_nmi),
        case("api/a paused guest can be ended in every way", host(), paused_ends),
    ]
}

fn watched(ctx: &Ctx) -> TestResult {
    shell(ctx)?;
    let mut guest = ctx.run(&machine("--cpus 2 --on-reboot stop")).start()?;
    guest.wait_for(READY)?;
    ctl(ctx, "ping")?.stdout_contains("vmm ")?;
    let info = ctl(ctx, "info")?;
    for line in ["state      Running", "vCPUs      2", "memory     128 MiB", &format!("initramfs  {SHELL}")] {
        info.stdout_contains(line)?;
    }
    ctl(ctx, "--json info")?.stdout_contains("\"state\": \"Running\"")?;
    ctl(ctx, "state")?.stdout_contains("Running")?;
    let phases = ctl(ctx, "phases")?;
    phases.line_with("load kernel")?;
    phases.line_with("create vCPUs")?;
    // A guest that boots has used its serial port.
    let counters = ctl(ctx, "--json counters")?;
    counters.stdout_contains("\"vcpu1\"")?;
    let ports = counters.line_with("port_exits")?;
    ensure!(!ports.contains(": 0"), "vCPU 0 has made no port I/O: {ports}");
    let metrics = ctl(ctx, "metrics")?;
    metrics.stdout_contains("vmm_guest_running 1\n")?;
    metrics.stdout_contains("vmm_guest_memory_bytes 134217728\n")?;
    metrics.stdout_contains("vmm_vcpu_exits_total{vcpu=\"0\",cause=\"port\"}")?;
    let time = counters.line_with("cpu_time_us")?;
    ensure!(!time.ends_with(": 0") && !time.ends_with(": 0,"), "vCPU 0 has used no time: {time}");
    metrics.stdout_contains("vmm_vcpu_cpu_seconds_total{vcpu=\"1\"}")?;
    let top = ctx
        .run(&format!("vmm top --once -s {SOCKET} -s /tmp/nobody.sock --interval 200ms"))
        .expect_success()?;
    top.stdout_contains("\napi      Running  ")?
        .stdout_contains(" of 128 MiB  ")?
        .stdout_contains("\n  vcpu1 ")?;
    top.stdout_contains("\nnobody   no machine answers at /tmp/nobody.sock")?;
    let mut screen = ctx.run(&format!("vmm top -s {SOCKET} --interval 200ms")).on_terminal().start()?;
    screen.wait_for("\x1b[?1049h\x1b[?25l")?;
    screen.wait_for("vcpu0")?;
    screen.wait_for("vcpu0")?;
    screen.send("q");
    let screen = screen.finish()?;
    ensure!(screen.status == 0, "it ended with status {}", screen.status);
    screen.stdout_contains("\x1b[?25h\x1b[?1049l")?;
    ctx.run(&format!("vmm ctl -s {SOCKET} pin-report"))
        .expect_status(2)?
        .stderr_contains("error: no guest memory has been pinned")?;
    ctx.run(&format!("vmm ctl -s {SOCKET} add-device 0000:00:01.0"))
        .expect_status(2)?
        .stderr_contains("adding a device is not supported without --pcie-ports")?;
    guest.send("reboot -f\n");
    let guest = guest.finish()?;
    ensure!(guest.status == 0, "it ended with status {}", guest.status);
    let stopped = "vmm: stopped: a reset was asked for, and --on-reboot is stop\n";
    ensure!(guest.stderr == stopped, "standard error is {:?}", guest.stderr);
    ctx.run(&format!("test -e {SOCKET}")).expect_status(1)?;
    ctx.run(&format!("vmm ctl -s {SOCKET} ping"))
        .expect_status(3)?
        .stderr_contains("no machine answers at")?;
    Ok(())
}

fn paused(ctx: &Ctx) -> TestResult {
    shell(ctx)?;
    let host_uptime = || number(&ctx.run("cat /proc/uptime").expect_success()?.stdout);
    let mut guest = ctx.run(&machine("--cpus 2")).deadline(240).start()?;
    guest.wait_for(READY)?;
    // What the kernel thought of its clocks while it booted is not what is asked here.
    guest.send("dmesg -c > /dev/null\n");
    let mut guest_uptime = || -> TestResult<f64> {
        guest.send("read -r up rest < /proc/uptime; echo up is $up.\n");
        guest.wait_for("up is ")?;
        number(guest.wait_for(".\r\n")?.trim_end_matches(['.', '\r', '\n']))
    };
    let began = host_uptime()?;
    let before = guest_uptime()?;
    let running = ctx.run(&format!("vmm ctl -s {SOCKET} coredump /tmp/core")).expect_status(1)?;
    running.stderr_contains("error: the machine is running\n   help: pause it first")?;
    ctl(ctx, "pause")?;
    let stopped = host_uptime()?;
    ctl(ctx, "info")?.stdout_contains("Paused")?;
    ctl(ctx, "metrics")?.stdout_contains("vmm_guest_paused 1\n")?;
    let again = ctx.run(&format!("vmm ctl -s {SOCKET} pause")).expect_status(1)?;
    again.stderr_contains("error: the machine is paused\n   help: resume it first")?;
    // Exits are counted by a vCPU that runs, so these stand still.
    let count = || ctl(ctx, "--json counters").map(|output| output.stdout);
    let counted = count()?;
    // Not to wait for anything, but for time to pass that the guest must not see.
    ctx.run("sleep 5").expect_success()?;
    ensure!(count()? == counted, "a paused guest made exits");
    dumped(ctx)?;
    let resuming = host_uptime()?;
    ctl(ctx, "resume")?;
    let after = guest_uptime()?;
    let ended = host_uptime()?;
    // The guest cannot have run for longer than the host's time less the pause. Half a second is for the resolution of
    // both clocks and their drift.
    let (ran, could) = (after - before, (ended - began) - (resuming - stopped));
    let stood_still = ran <= could + 0.5;
    ensure!(stood_still, "the guest's clock went on by {ran} s, but it ran for {could} s at most");
    let again = ctx.run(&format!("vmm ctl -s {SOCKET} resume")).expect_status(1)?;
    again.stderr_contains("error: the machine is running")?;
    for _ in 0..8 {
        ctl(ctx, "pause")?;
        ctl(ctx, "resume")?;
    }
    guest.send("dmesg | grep -iE 'lockup|stall|unstable' || echo no complaints; poweroff -f\n");
    guest.finish()?.stdout_contains("no complaints")?;
    Ok(())
}

/// A guest that is paused can be dumped.
fn dumped(ctx: &Ctx) -> TestResult {
    ctx.run(&format!("cd /tmp && vmm ctl -s {SOCKET} coredump core")).expect_success()?;
    // e_type and e_machine are ET_CORE and EM_X86_64.
    ctx.run("od -A n -t x1 -N 20 /tmp/core").expect_success()?.stdout_contains("04 00 3e 00")?;
    // The kernel is loaded at 16 MiB; to look through all of it takes emulation long.
    ctx.run("dd if=/tmp/core bs=1M skip=15 count=24 2>/dev/null | grep -q 'Linux version [0-9]'")
        .expect_success()?;
    let file = ctx.run("stat -c '%a %s %b' /tmp/core").expect_success()?;
    let file: Vec<u64> = file.stdout.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [mode, size, blocks] = file[..] else { return Err(Failure::new(format!("stat says {file:?}"))) };
    ensure!(mode == 600 && size > 128 << 20, "it has {size} bytes and mode {mode}");
    ensure!(blocks * 512 < size * 3 / 4, "nothing of it is a hole: {blocks} blocks of {size} bytes");
    let again = ctx.run(&format!("vmm ctl -s {SOCKET} coredump /tmp/core")).expect_status(1)?;
    again.stderr_contains("error: /tmp/core is there already\n")?;
    ctx.run("rm /tmp/core && mkdir /small && mount -t tmpfs -o size=1m none /small").expect_success()?;
    let full = ctx.run(&format!("vmm ctl -s {SOCKET} coredump /small/core")).expect_status(1)?;
    full.stderr_contains("cannot write /small/core, which was removed again")?
        .stderr_contains("No space left on device")?;
    ctx.run("ls -A /small | grep .").expect_status(1)?;
    // A file system that takes nothing holds up the dump, and the guest with it, but no other request.
    ctx.run("truncate -s 256M /slow.img && mke2fs -F /slow.img && mkdir /slow").expect_success()?;
    ctx.run("mount -o loop /slow.img /slow && fsfreeze --freeze /slow").expect_success()?;
    let dump = ctx.run(&format!("vmm ctl -s {SOCKET} coredump /slow/core")).start()?;
    let begun = "until grep -qx coredump /proc/[0-9]*/task/*/comm 2> /dev/null; do usleep 50000; done";
    ctx.run(begun).expect_success()?;
    for refused in ["resume", "coredump /tmp/other"] {
        let refused = ctx.run(&format!("vmm ctl -s {SOCKET} {refused}")).expect_status(1)?;
        refused.stderr_contains("error: the machine is being dumped\n   help: wait until")?;
    }
    ctl(ctx, "info")?.stdout_contains("Paused")?;
    ctx.run("fsfreeze --unfreeze /slow").expect_success()?;
    let dump = dump.finish()?;
    ensure!(dump.status == 0, "it ended with status {}: {}", dump.status, dump.stderr);
    Ok(())
}

fn power_button(ctx: &Ctx) -> TestResult {
    let mut guest = ctx.run(&format!("vmm run {QUIET} --api-socket {SOCKET} --memory 128M")).start()?;
    guest.wait_for("vmm> ")?;
    ctl(ctx, "power-button --wait")?;
    let guest = guest.finish()?;
    ensure!(guest.status == 0, "it ended with status {}", guest.status);
    guest.stdout_contains("the power button was pressed")?;
    guest.stdout_contains("reboot: Power down")?;
    Ok(())
}

fn signals(ctx: &Ctx) -> TestResult {
    // One that heeds its power button.
    let mut guest = ctx.run(&format!("exec vmm run {QUIET} --memory 128M")).start()?;
    guest.wait_for("vmm> ")?;
    ctx.run("kill -TERM $(pidof vmm)").expect_success()?;
    let guest = guest.finish()?;
    ensure!(guest.status == 0, "it ended with status {}", guest.status);
    guest.stdout_contains("reboot: Power down")?;
    guest.stderr_contains("vmm: SIGTERM: the guest has 30s to power off")?;
    ensure!(!guest.stderr.contains("stopped by"), "it was stopped: {}", guest.stderr);
    // One that does not, and an operator who does not want to wait.
    shell(ctx)?;
    let mut guest =
        ctx.run(&format!("exec vmm run {QUIET} --memory 128M --initrd {SHELL} --grace 10m 2>&1")).start()?;
    guest.wait_for(READY)?;
    ctx.run("kill -INT $(pidof vmm)").expect_success()?;
    guest.wait_for("vmm: SIGINT: the guest has 600s to power off; a second signal stops it")?;
    ctx.run("kill -TERM $(pidof vmm)").expect_success()?;
    guest.finish()?.stdout_contains("vmm: stopped by SIGTERM\n")?;
    // Its time runs out.
    let mut guest =
        ctx.run(&format!("exec vmm run {QUIET} --memory 128M --initrd {SHELL} --grace 1s")).start()?;
    guest.wait_for(READY)?;
    ctx.run("kill -HUP $(pidof vmm)").expect_success()?;
    let guest = guest.finish()?;
    ensure!(guest.status == 0, "it ended with status {}", guest.status);
    guest.stderr_contains("vmm: stopped by SIGHUP: the guest did not power off in time")?;
    Ok(())
}

fn reset_and_nmi(ctx: &Ctx) -> TestResult {
    shell(ctx)?;
    let mut guest = ctx.run(&machine("--cpus 2 --pcie-ports 1 2>&1")).deadline(240).start()?;
    guest.wait_for(READY)?;
    let sum = image(ctx)?;
    ctl(ctx, &format!("add-disk {IMAGE}"))?;
    ctl(ctx, "nmi")?;
    guest.send("grep NMI: /proc/interrupts | tr -s ' '\n");
    let counts = guest.wait_for("Non-maskable interrupts")?;
    ensure!(counts.contains("NMI: 1 1 "), "not every vCPU has had one NMI: {counts:?}");
    ctl(ctx, "reboot")?;
    guest.wait_for("vmm: the guest reboots")?;
    guest.wait_for(READY)?;
    // A disk that has been plugged in is there again.
    guest.send("until (: < /dev/vda) 2>/dev/null; do usleep 100000; done; md5sum < /dev/vda\n");
    guest.wait_for(&sum)?;
    ctl(ctx, "metrics")?.stdout_contains("vmm_guest_resets_total 1\n")?;
    ctl(ctx, "shutdown-vmm")?;
    let guest = guest.finish()?;
    ensure!(guest.status == 0, "it ended with status {}", guest.status);
    guest.stdout_contains("vmm: stopped by request")?;
    Ok(())
}

fn paused_ends(ctx: &Ctx) -> TestResult {
    // Its power button, which it can hear when it runs.
    let machine = format!("exec vmm run --api-socket {SOCKET} --memory 128M");
    let mut guest = ctx.run(&format!("{machine} {QUIET}")).start()?;
    guest.wait_for("vmm> ")?;
    ctl(ctx, "pause")?;
    ctx.run("kill -TERM $(pidof vmm)").expect_success()?;
    guest.finish()?.stdout_contains("reboot: Power down")?;
    // A reset, after which it runs.
    let tiny = ctx.tiny(&SAYS_READY)?;
    let mut guest = ctx.run(&format!("{machine} {tiny} 2>&1")).start()?;
    guest.wait_for("ready")?;
    ctl(ctx, "pause")?;
    ctl(ctx, "reboot")?;
    guest.wait_for("ready")?;
    ctl(ctx, "info")?.stdout_contains("Running")?;
    // A stop.
    ctl(ctx, "pause")?;
    ctl(ctx, "shutdown-vmm")?;
    guest.finish()?.stdout_contains("vmm: stopped by request")?;
    Ok(())
}
