//! The guest's console is the operator's terminal: keys, pastes, the escape, and the terminal given back.

use crate::host::HostSpec;
use crate::suite::{Case, Ctx, GuestInitrd, QUIET, TestResult, case, ensure};

pub(super) fn all() -> Vec<Case> {
    let host = || HostSpec::default().one_cpu();
    vec![
        case("console/64 KiB pasted into a guest arrive whole", host(), paste),
        case("console/input from before the guest listens is not lost", host(), early_input),
        case("console/Ctrl-A x ends, and the terminal is as before", host(), escape),
        case("console/the terminal is given back after a crash", host(), crash),
        case("console/a signal ends the machine and is named", host(), signals),
        case("console/output nobody reads does not keep it from ending", host(), deaf_reader),
    ]
}

fn paste(ctx: &Ctx) -> TestResult {
    let script = "stty raw -echo; echo ready; head -c 65536 | sha256sum; poweroff -f";
    let initrd = GuestInitrd::with_script(ctx.artefacts, script)?;
    ctx.put("/tmp/guest.cpio", &initrd.build()?)?;
    let pasted: String = (0..65536 / 8).map(|i| format!("{i:08x}")).collect();
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
    let mut shell = ctx
        .run(&format!("stty -a; vmm run {QUIET} --memory 128M; echo status $?; stty -a"))
        .on_terminal()
        .start()?;
    shell.wait_for("vmm> ")?;
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
    let mut shell =
        ctx.run(&format!("vmm run {QUIET} --memory 128M; echo status $?; stty -a")).on_terminal().start()?;
    shell.wait_for("vmm> ")?;
    ctx.run("kill -SEGV $(pidof vmm)").expect_success()?;
    shell.wait_for("status 139")?;
    shell.finish()?.stdout_contains(" icanon")?;
    Ok(())
}

fn signals(ctx: &Ctx) -> TestResult {
    for signal in ["TERM", "INT", "HUP"] {
        let mut guest = ctx.run(&format!("exec vmm run {QUIET} --memory 128M --grace 0")).start()?;
        guest.wait_for("vmm> ")?;
        ctx.run(&format!("kill -{signal} $(pidof vmm)")).expect_success()?;
        let guest = guest.finish()?;
        ensure!(guest.status == 0, "it ended with status {}", guest.status);
        guest.stderr_contains(&format!("vmm: stopped by SIG{signal}"))?;
    }
    Ok(())
}

fn deaf_reader(ctx: &Ctx) -> TestResult {
    // The pipe fills up, the vCPU blocks in its write, and the signal must still end it.
    let command = "mkfifo /tmp/pipe; sleep 1000 < /tmp/pipe & reader=$!; \
                   timeout -s TERM 20 vmm run --memory 128M --grace 0 --cmdline 'console=ttyS0 loglevel=8 initcall_debug' > /tmp/pipe; \
                   s=$?; kill $reader; rm /tmp/pipe; exit $s";
    let output = ctx.run(command).deadline(60).output()?;
    ensure!(output.status == 0 || output.status == 143, "it ended with status {}", output.status);
    output.stderr_contains("stopped by SIGTERM")?;
    Ok(())
}
