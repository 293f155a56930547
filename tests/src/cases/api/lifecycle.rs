//! Machines that are created over the socket.

use super::{READY, SHELL, SOCKET, ctl, shell};
use crate::host::{HostSpec, NVME};
use crate::suite::{Case, Ctx, Failure, Interactive, SAYS_READY, TestResult, case, ensure};

pub(super) fn all() -> Vec<Case> {
    let host = || HostSpec::default().one_cpu();
    vec![
        case("api/a machine is created, booted, shut down, booted again and deleted", host(), life),
        case("api/a machine with a device is created and booted", host(), with_device),
        case("api/a boot that fails says why, and another can follow", host(), failed_boot),
        case("api/a guest that powers off ends the process", host(), guest_ends),
        case("api/a machine's console is a pseudo-terminal", host(), pseudo_terminal),
        case("api/sockets are private, left-over ones are taken over, others' stay", host(), sockets),
    ]
}

/// A process without a machine.
fn waiting<'a>(ctx: &'a Ctx) -> TestResult<Interactive<'a>> {
    let mut vmm = ctx.run(&format!("exec vmm --api-socket {SOCKET} 2>&1")).deadline(300).start()?;
    vmm.wait_for("vmm: waiting for a machine to be created")?;
    Ok(vmm)
}

/// A machine with the shell guest, with these fields besides.
fn describe(ctx: &Ctx, serial: &str, more: &str) -> TestResult {
    shell(ctx)?;
    let release = ctx.run("uname -r").expect_success()?.stdout;
    let config = format!(
        "{{\"payload\":{{\"kernel\":\"/boot/vmlinuz-{}\",\"initramfs\":\"{SHELL}\",\"cmdline\":\"console=ttyS0 quiet\"}},\
         \"memory\":{{\"size\":134217728}},\"serial\":{serial}{more}}}",
        release.trim()
    );
    ctx.put("/tmp/vm.json", config.as_bytes())
}

/// Waits until a file of the host holds some text.
fn wait_for_file(ctx: &Ctx, path: &str, text: &str) -> TestResult {
    let look = format!("until grep -q '{text}' {path}; do sleep 0.1; done");
    ctx.run(&look).expect_success()?;
    Ok(())
}

fn life(ctx: &Ctx) -> TestResult {
    let command = format!("exec vmm --api-socket {SOCKET} --events /tmp/events 2>&1");
    let mut vmm = ctx.run(&command).deadline(300).start()?;
    vmm.wait_for("vmm: waiting for a machine to be created")?;
    ctl(ctx, "state")?.stdout_contains("None")?;
    ctx.tiny(&SAYS_READY)?;
    let machine = r#"{"payload":{"kernel":"/lab/tiny"},"memory":{"size":33554432},"cpus":{"boot_vcpus":2,"max_vcpus":2},
        "serial":{"mode":"File","file":"/tmp/console"}}"#;
    ctx.put("/tmp/vm.json", machine.as_bytes())?;
    ctl(ctx, "create /tmp/vm.json")?;
    ctl(ctx, "info")?.stdout_contains("Created")?;
    for _ in 0..2 {
        ctx.run("rm -f /tmp/console").expect_success()?;
        ctl(ctx, "boot")?;
        ctl(ctx, "info")?.stdout_contains("Running")?;
        wait_for_file(ctx, "/tmp/console", "ready")?;
        ctl(ctx, "shutdown")?;
        ctl(ctx, "info")?.stdout_contains("Created")?;
    }
    ctl(ctx, "boot")?;
    let twice = ctx.run(&format!("vmm ctl -s {SOCKET} boot")).expect_status(1)?;
    twice.stderr_contains("error: the machine has been booted already")?;
    ctl(ctx, "delete")?;
    ctl(ctx, "state")?.stdout_contains("None")?;
    ctx.run(&format!("vmm ctl -s {SOCKET} info"))
        .expect_status(2)?
        .stderr_contains("no machine has been created")?;
    // The descriptors of three machines are gone.
    let open = ctx.run("ls /proc/$(pidof vmm)/fd | wc -l").expect_success()?;
    let open: u32 = open.stdout.trim().parse()?;
    ensure!(open < 20, "{open} descriptors are open");
    ctl(ctx, "shutdown-vmm")?;
    let vmm = vmm.finish()?;
    ensure!(vmm.status == 0, "it ended with status {}", vmm.status);
    ctx.run(&format!("test -e {SOCKET}")).expect_status(1)?;
    // What happened to the machines, and to the process.
    let events = ctx.run("cat /tmp/events && rm /tmp/events").expect_success()?;
    let started = events.stdout.matches("\"event\":\"running\"").count();
    ensure!(started == 3, "{started} machines are said to have run, not 3: {}", events.stdout);
    events.line_with("\"event\":\"ended\"")?;
    Ok(())
}

fn with_device(ctx: &Ctx) -> TestResult {
    let vmm = waiting(ctx)?;
    let device = format!(r#","devices":[{{"path":"/sys/bus/pci/devices/{NVME}","id":"disk"}}]"#);
    describe(ctx, r#"{"mode":"Tty"}"#, &device)?;
    ctl(ctx, "create /tmp/vm.json")?;
    ctl(ctx, "boot")?;
    let mut vmm = vmm;
    vmm.wait_for(READY)?;
    ctl(ctx, "info")?.stdout_contains(&format!("device     disk: {NVME}, 0000:00:01.0 in the guest"))?;
    let report = ctl(ctx, "pin-report")?;
    report.stdout_contains("outcome")?;
    report.line_with("misplaced pages")?;
    ctl(ctx, "metrics")?.stdout_contains("vmm_pin_success")?;
    // All of it is there and can be seen, none of it where it may not be.
    let memory =
        ctx.run(&format!("vmm memory -s {SOCKET} --json; vmm memory -s {SOCKET}")).expect_success()?;
    for field in ["\"absent\": 0", "\"cma\": 0", "\"movable\": 0", "\"unknown\": 0", "\"unknown\": null"] {
        memory.stdout_contains(field)?;
    }
    memory.stdout_contains(&format!("0x0            [{}]  ", "#".repeat(32)))?;
    vmm.send("until (: < /dev/nvme0n1) 2>/dev/null; do sleep 0.1; done; dd if=/dev/nvme0n1 bs=1M count=1 2>/dev/null | sha256sum\n");
    vmm.wait_for(&ctx.artefacts.disk.sha256(1 << 20)?)?;
    ctl(ctx, "shutdown-vmm")?;
    vmm.finish()?;
    ctx.run(&format!("readlink /sys/bus/pci/devices/{NVME}/driver"))
        .expect_success()?
        .stdout_contains("vfio-pci")?;
    Ok(())
}

fn failed_boot(ctx: &Ctx) -> TestResult {
    let vmm = waiting(ctx)?;
    ctx.put("/tmp/bad.json", br#"{"payload":{"kernel":"/nonexistent"}}"#)?;
    ctl(ctx, "create /tmp/bad.json")?;
    let refused = ctx.run(&format!("vmm ctl -s {SOCKET} boot")).expect_status(1)?;
    refused.stderr_contains(
        "error: cannot use kernel /nonexistent\n  cause: it does not exist\n   help: check the path",
    )?;
    ctl(ctx, "state")?.stdout_contains("Created")?;
    ctl(ctx, "delete")?;
    ctx.put("/tmp/bad.json", br#"{"payload":{"kernel":"/k"},"tpm":{"socket":"/d"},"fs":[{}]}"#)?;
    let refused = ctx.run(&format!("vmm ctl -s {SOCKET} create /tmp/bad.json")).expect_status(2)?;
    refused.stderr_contains("`tpm` is not supported")?.stderr_contains("`fs[0].socket` is missing")?;
    describe(ctx, r#"{"mode":"File","file":"/tmp/console"}"#, "")?;
    ctl(ctx, "create /tmp/vm.json")?;
    ctx.run("rm -f /tmp/console").expect_success()?;
    ctl(ctx, "boot")?;
    wait_for_file(ctx, "/tmp/console", READY)?;
    ctl(ctx, "shutdown-vmm")?;
    vmm.finish()?;
    Ok(())
}

fn guest_ends(ctx: &Ctx) -> TestResult {
    let mut vmm = waiting(ctx)?;
    describe(ctx, r#"{"mode":"Tty"}"#, "")?;
    ctl(ctx, "create /tmp/vm.json")?;
    ctl(ctx, "boot")?;
    vmm.wait_for(READY)?;
    vmm.send("poweroff -f\n");
    let vmm = vmm.finish()?;
    ensure!(vmm.status == 0, "it ended with status {}", vmm.status);
    // And one that is waiting ends at a signal, its socket with it.
    let vmm = waiting(ctx)?;
    ctx.run("kill -TERM $(pidof vmm)").expect_success()?;
    vmm.finish()?.stdout_contains("vmm: stopped by SIGTERM")?;
    ctx.run(&format!("test -e {SOCKET}")).expect_status(1)?;
    Ok(())
}

fn pseudo_terminal(ctx: &Ctx) -> TestResult {
    let vmm = waiting(ctx)?;
    describe(ctx, r#"{"mode":"Pty"}"#, "")?;
    ctl(ctx, "create /tmp/vm.json")?;
    ctl(ctx, "boot")?;
    let info = ctl(ctx, "info")?;
    let pty = info.line_with("serial")?.split_whitespace().last().unwrap_or_default().to_owned();
    ensure!(pty.starts_with("/dev/pts/"), "the serial port is at {pty:?}");
    // The guest has not waited for a reader; what it says while nobody reads may be lost, so it is asked until it
    // answers.
    let ask = format!(
        "exec 3<>{pty}; (while :; do echo 'echo the answer is $((6*7))'; sleep 1; done) >&3 & asker=$!; \
         grep -m 1 'the answer is 42' <&3; s=$?; kill $asker; exit $s"
    );
    ctx.run(&ask).expect_success()?.stdout_contains("the answer is 42")?;
    ctl(ctx, "shutdown-vmm")?;
    vmm.finish()?;
    Ok(())
}

fn sockets(ctx: &Ctx) -> TestResult {
    let vmm = waiting(ctx)?;
    let mode = ctx.run(&format!("stat -c '%a %F' {SOCKET}")).expect_success()?;
    mode.stdout_contains("600 socket")?;
    let refused = ctx.run(&format!("vmm run --api-socket {SOCKET}")).expect_status(2)?;
    refused.stderr_contains(&format!("error: cannot listen at {SOCKET}: another process does"))?;
    // Killed, it leaves its socket behind.
    let output = vmm.kill()?;
    ensure!(output.status != 0, "it was not killed");
    ctx.run(&format!("test -S {SOCKET}")).expect_success()?;
    let vmm = waiting(ctx)?;
    ctl(ctx, "ping")?;
    ctl(ctx, "shutdown-vmm")?;
    vmm.finish()?;
    // What is not a socket stays what it is.
    ctx.run("cd /tmp; echo precious > file; ln -s file link; ln -s nowhere dangling").expect_success()?;
    for path in ["/tmp/file", "/tmp/link", "/tmp/dangling", "/tmp"] {
        let refused = ctx.run(&format!("vmm --api-socket {path}")).expect_status(2)?;
        refused.stderr_contains(&format!("error: cannot listen at {path}: "))?;
    }
    ctx.run("cd /tmp; grep -q precious file && test -L link && test ! -e nowhere && rm file link dangling")
        .expect_success()?;
    for (socket, words) in
        [("fd=99", "descriptor 99 cannot serve the API"), ("fd=x", "is neither a path nor a descriptor")]
    {
        ctx.run(&format!("vmm --api-socket {socket}")).expect_status(2)?.stderr_contains(words)?;
    }
    let silent = ctx.run("vmm").output()?;
    ensure!(silent.status == 2, "vmm alone ended with status {}", silent.status);
    silent.stderr_contains("--api-socket").map(drop).map_err(|e| Failure::new(format!("no help: {e}")))
}
