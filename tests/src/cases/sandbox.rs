//! What vmm has given up when its guest runs.

use crate::host::{HostSpec, NVME};
use crate::suite::{Case, Ctx, GuestInitrd, QUIET, TestResult, case, ensure};

pub(super) fn all() -> Vec<Case> {
    vec![case("sandbox/threads have what they need", HostSpec::default(), rights)]
}

/// A line for each thread, and one for each mapping of guest memory.
const LOOK: &str = r#"
    cd /proc/$(pidof vmm)
    for task in task/*; do
        echo "$(cat $task/comm)" $(grep -E '^(CapEff|NoNewPrivs|Seccomp):' $task/status | tr -d '\t ')
    done
    sed -n '/guest-ram/,/^VmFlags/p' smaps | grep ^VmFlags"#;

fn rights(ctx: &Ctx) -> TestResult {
    let initrd = GuestInitrd::with_script(ctx.artefacts, "echo the guest is up; read x; poweroff -f")?;
    ctx.put("/tmp/guest.cpio", &initrd.build()?)?;
    let flags = format!("--rng --vfio {NVME} --events /tmp/events --api-socket /tmp/api.sock");
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
