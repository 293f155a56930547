//! Virtio consoles: a console on a pseudo-terminal, and ports with names for programs. And the watchdog.

use crate::host::HostSpec;
use crate::suite::{Case, Ctx, GuestInitrd, QUIET, TestResult, case, ensure};

pub(super) fn all() -> Vec<Case> {
    vec![
        case("virtio/a console, and ports that clients come and go at", HostSpec::default(), ports),
        case("virtio/a guest that hangs is reset by its watchdog", HostSpec::default(), watchdog),
    ]
}

/// What it writes to its console while nobody reads is more than is kept.
const GUEST: &str = r#"
    port() { for p in /sys/class/virtio-ports/*; do [ "$(cat $p/name 2>/dev/null)" != $1 ] || echo /dev/${p##*/}; done; }
    echo logged $(uname -s) > $(port log)
    exec 4<> /dev/hvc0; stty raw -echo <&4
    head -c 100000 /dev/zero >&4; echo nobody held the guest up
    read -r line <&4; echo "heard $line" >&4; echo it heard $line
    until stty size <&4 | grep "50 132"; do usleep 100000; done
    # Until somebody is there, what is read is the end.
    read what; for client in 1 2; do
        exec 3<> $(port agent.0); echo at the port $client
        until dd bs=1 count=1 of=/first <&3 2>/dev/null; [ -s /first ]; do usleep 10000; done
        { cat /first; head -c 1048575 <&3; } >&3
        exec 3>&-; rm /first
    done
    poweroff -f"#;

fn ports(ctx: &Ctx) -> TestResult {
    let talk = ctx.program("vsock")?;
    ctx.put("/tmp/guest.cpio", &GuestInitrd::with_script(ctx.artefacts, GUEST)?.build()?)?;
    let ports =
        "--console pty=/tmp/hvc --console name=agent.0,socket=/tmp/agent --console name=log,file=/tmp/log";
    let command = format!("vmm run {ports} --memory 128M {QUIET} --initrd /tmp/guest.cpio");
    let mut guest = ctx.run(&command).deadline(240).start()?;
    guest.wait_for("nobody held the guest up")?;
    ctx.run("cat /tmp/log").expect_success()?.stdout_contains("logged Linux")?;
    // What is left of the zeros comes first. In a shell of its own, whose terminal this does not become.
    let typed = "stty -F /tmp/hvc cols 132 rows 50; ( exec 4<> /tmp/hvc; echo hello >&4; \
        until read -r line <&4 && [ \"${line%heard hello*}\" != \"$line\" ]; do :; done ) && true";
    ctx.run(typed).expect_success()?;
    guest.wait_for("50 132")?;
    guest.send("on\n");
    for client in ["at the port 1", "at the port 2"] {
        guest.wait_for(client)?;
        let talked = ctx.run(&format!("{talk} talk unix:/tmp/agent 1 1024")).expect_success()?;
        talked.stdout_contains("1048576 bytes there and back over 1 connections")?;
    }
    let guest = guest.finish()?;
    ensure!(guest.status == 0, "it ended with status {}", guest.status);
    ensure!(guest.stderr == "vmm: the guest powered off\n", "standard error is {:?}", guest.stderr);
    ctx.run("! ls /tmp/agent && ! readlink /tmp/hvc && rm /tmp/log /tmp/guest.cpio").expect_success()?;
    Ok(())
}

/// A program that opens the watchdog, and reloads it once a minute where it should each second.
const HANGS: &str = "echo at $(dmesg | grep -c i6300); read what; [ $what = hang ] || poweroff -f; \
    watchdog -F -T 1 -t 60 /dev/watchdog";

fn watchdog(ctx: &Ctx) -> TestResult {
    ctx.put("/tmp/guest.cpio", &GuestInitrd::with_script(ctx.artefacts, HANGS)?.build()?)?;
    let run = format!("vmm run --memory 128M {QUIET} --initrd /tmp/guest.cpio --watchdog");
    let mut guest = ctx.run(&format!("{run} reset")).start()?;
    guest.wait_for("at ")?;
    guest.send("hang\n");
    guest.wait_for("at ")?;
    guest.send("poweroff\n");
    let guest = guest.finish()?;
    ensure!(guest.status == 0, "it ended with status {}", guest.status);
    guest.stderr_contains("the guest has not reloaded its watchdog in time and is reset")?;
    ctx.run("rm /tmp/guest.cpio").expect_success()?;
    Ok(())
}
