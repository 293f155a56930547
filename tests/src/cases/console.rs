//! The guest's console is the operator's terminal: keys, pastes, the escape, and the terminal given back.

use crate::host::HostSpec;
use crate::suite::{Case, Ctx, GuestInitrd, QUIET, SAYS_READY, TestResult, case, ensure};

pub(super) fn all() -> Vec<Case> {
    let host = || HostSpec::default().one_cpu();
    vec![
        case("console/16 KiB pasted into a guest arrive whole", host(), |ctx| paste(ctx, 16 << 10)),
        case("long/64 KiB pasted into a guest arrive whole", host(), |ctx| paste(ctx, 64 << 10)),
        case("console/input from before the guest listens is not lost", host(), early_input),
        case("console/Ctrl-A x ends, and the terminal is as before", host(), escape),
        case("console/the terminal is given back after a crash", host(), crash),
        case("console/a signal ends the machine and is named", host(), signals),
        case("console/output nobody reads does not keep it from ending", host(), deaf_reader),
    ]
}

/// Many times what a terminal takes at once. Linux reads each byte with two exits.
fn paste(ctx: &Ctx, bytes: u32) -> TestResult {
    let script = format!("stty raw -echo; echo ready; head -c {bytes} | sha256sum; poweroff -f");
    let initrd = GuestInitrd::with_script(ctx.artefacts, &script)?;
    ctx.put("/tmp/guest.cpio", &initrd.build()?)?;
    let pasted: String = (0..bytes / 8).map(|i| format!("{i:08x}")).collect();
    ctx.put("/tmp/paste", pasted.as_bytes())?;
    let sum = ctx.run("sha256sum < /tmp/paste").expect_success()?;
    let mut guest =
        ctx.run(&format!("vmm run {QUIET} --memory 128M --initrd /tmp/guest.cpio")).on_terminal().start()?;
    guest.wait_for("ready")?;
    guest.send(&pasted);
    guest.finish()?.stdout_contains(sum.stdout.trim())?;
    ctx.run("rm /tmp/guest.cpio /tmp/paste").expect_success()?;
    Ok(())
}

fn early_input(ctx: &Ctx) -> TestResult {
    let guest = ctx.run(&format!("vmm run {QUIET} --memory 128M")).stdin("mem\nirqs\n").expect_success()?;
    ensure!(guest.stdout.contains("mem") && guest.stdout.contains("irqs"), "the commands did not arrive");
    guest.stdout_contains("reboot: Power down")?;
    Ok(())
}

fn escape(ctx: &Ctx) -> TestResult {
    let tiny = ctx.tiny(&SAYS_READY)?;
    let mut shell = ctx
        .run(&format!("stty -a; vmm run {tiny} --memory 32M; echo status $?; stty -a"))
        .on_terminal()
        .start()?;
    shell.wait_for("ready")?;
    shell.send("\x01h");
    shell.wait_for("Ctrl-A x  end the machine")?;
    shell.send("\x01x");
    shell.wait_for("status 0")?;
    let output = shell.finish()?;
    output.stdout_contains("vmm: stopped from the console")?;
    let settings: Vec<&str> = output.stdout.lines().filter(|line| line.contains("icanon")).collect();
    ensure!(settings.len() == 2, "stty did not print twice");
    ensure!(settings.first() == settings.last(), "the terminal was {settings:?}");
    Ok(())
}

fn crash(ctx: &Ctx) -> TestResult {
    let tiny = ctx.tiny(&SAYS_READY)?;
    let mut shell =
        ctx.run(&format!("vmm run {tiny} --memory 32M; echo status $?; stty -a")).on_terminal().start()?;
    shell.wait_for("ready")?;
    ctx.run("kill -SEGV $(pidof vmm)").expect_success()?;
    shell.wait_for("status 139")?;
    shell.finish()?.stdout_contains(" icanon")?;
    Ok(())
}

fn signals(ctx: &Ctx) -> TestResult {
    let tiny = ctx.tiny(&SAYS_READY)?;
    for signal in ["TERM", "INT", "HUP"] {
        let mut guest = ctx.run(&format!("exec vmm run {tiny} --memory 32M --grace 0")).start()?;
        guest.wait_for("ready")?;
        ctx.run(&format!("kill -{signal} $(pidof vmm)")).expect_success()?;
        let guest = guest.finish()?;
        ensure!(guest.status == 0, "it ended with status {}", guest.status);
        guest.stderr_contains(&format!("vmm: stopped by SIG{signal}"))?;
    }
    Ok(())
}

fn deaf_reader(ctx: &Ctx) -> TestResult {
    // mov dx, 0x3f8; then for ever: mov esi, 0x200000; mov ecx, 1024; rep outsb
    let chat = [0x66, 0xba, 0xf8, 0x03, 0xbe, 0, 0, 0x20, 0, 0xb9, 0, 0x04, 0, 0, 0xf3, 0x6e, 0xeb, 0xf2];
    let tiny = ctx.tiny(&chat)?;
    // The pipe is full for a few bytes, the vCPU sleeps until it has room, and the signal must still end it. Nothing
    // else in this machine sleeps in poll(2).
    let command = format!(
        "mkfifo /tmp/pipe; exec 8<>/tmp/pipe; dd if=/dev/zero of=/tmp/pipe bs=65530 count=1 2>/dev/null; \
         vmm run {tiny} --memory 32M --grace 0 > /tmp/pipe & vmm=$!; \
         until grep -qs poll_schedule_timeout /proc/$vmm/task/*/wchan; do usleep 50000; done; \
         kill -TERM $vmm; wait $vmm; s=$?; rm /tmp/pipe; exit $s"
    );
    let output = ctx.run(&command).deadline(60).expect_success()?;
    output.stderr_contains("stopped by SIGTERM")?;
    Ok(())
}
