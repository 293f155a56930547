//! Where on the host the threads of a machine run.

use crate::host::HostSpec;
use crate::suite::{Case, Ctx, GuestInitrd, QUIET, TestResult, case, ensure};

pub(super) fn all() -> Vec<Case> {
    vec![
        case("placement/every thread runs on the CPUs it was given", HostSpec::default(), placed),
        case("placement/the host polls for a halted vCPU as it was told to", HostSpec::default(), polled),
    ]
}

/// A line for each thread: its name, its CPUs, its policy (sched(7): 0 SCHED_OTHER, 1 SCHED_FIFO) and real-time priority.
const THREADS: &str = "for task in /proc/$(pidof vmm)/task/*; do
    cpus=$(grep Cpus_allowed_list $task/status | cut -f 2)
    echo \"thread $(cat $task/comm) on $cpus, $(sed 's/.*) //' $task/stat | cut -d ' ' -f 38,39)\"; done";

fn placed(ctx: &Ctx) -> TestResult {
    // The driver gets ready on vCPU 1, whose thread starts the device's.
    let script = "taskset 2 sh -c 'echo virtio0 > /sys/bus/virtio/drivers/virtio_blk/unbind; \
                  echo virtio0 > /sys/bus/virtio/drivers/virtio_blk/bind'; ip link set eth0 up; echo bound; read what; poweroff -f";
    ctx.put("/tmp/guest.cpio", &GuestInitrd::with_script(ctx.artefacts, script)?.build()?)?;
    ctx.run("truncate -s 1M /tmp/placed.img").expect_success()?;
    let machine = "--memory 128M --cpus 2 --initrd /tmp/guest.cpio --disk /tmp/placed.img --net tap9,create";
    let placement = "--cpu-affinity 2,1 --housekeeping-cpus 1 --cpu-realtime 7";
    let mut guest = ctx.run(&format!("vmm run {QUIET} {machine} {placement}")).start()?;
    guest.wait_for("bound")?;
    let threads = ctx.run(THREADS).expect_success()?;
    for expected in ["thread vcpu0 on 2, 7 1", "thread vcpu1 on 1, 7 1", "thread vmm on 1, 0 0"] {
        ensure!(threads.stdout.contains(&format!("{expected}\n")), "no {expected:?}");
    }
    let of_devices: Vec<&str> = threads.stdout.lines().filter(|line| line.contains("virtio-blk")).collect();
    ensure!(!of_devices.is_empty(), "no thread serves the disk");
    // KVM's own thread is started by the first vCPU that runs, and sleeps but on CPUs with a certain defect.
    let of_vcpus = |line: &str| line.contains("vcpu") || line.contains("kvm-nx-lpage");
    let elsewhere = threads.stdout.lines().find(|line| !of_vcpus(line) && !line.ends_with(" on 1, 0 0"));
    ensure!(elsewhere.is_none(), "not on the housekeeping CPU: {elsewhere:?}");
    guest.send("on\n");
    let guest = guest.finish()?;
    ensure!(guest.status == 0, "it ended with status {}", guest.status);
    ctx.run("rm /tmp/guest.cpio /tmp/placed.img").expect_success()?;

    // All of it is said at once, before anything is there.
    let refused =
        ctx.run("vmm run --cpus 2 --cpu-affinity 2,77 --housekeeping-cpus 1,78").expect_status(3)?;
    refused
        .stderr_contains("CPU 77 of the host cannot be used")?
        .stderr_contains("CPU 78 of the host cannot be used")?;
    // CAP_SYS_NICE.
    let meddle = ctx.program("meddle")?;
    // Neither CAP_SYS_NICE nor, to raise the limit, CAP_SYS_RESOURCE.
    let unable = format!("{meddle} without 24 {meddle} without 23 vmm check --cpu-realtime 7");
    ctx.run(&unable).output()?.stdout_contains("vCPUs may not have the real-time priority 7")?;
    Ok(())
}

/// A guest that halts for a millisecond at a time, once without any polling and once with more than it ever halts.
fn polled(ctx: &Ctx) -> TestResult {
    let script =
        "n=0; while [ $n -lt 100 ]; do usleep 1000; n=$((n + 1)); done; echo rested; read what; poweroff -f";
    ctx.put("/tmp/guest.cpio", &GuestInitrd::with_script(ctx.artefacts, script)?.build()?)?;
    for (most, polls) in [("0", false), ("1s", true)] {
        let command = format!("vmm run {QUIET} --memory 128M --initrd /tmp/guest.cpio --halt-poll {most}");
        let mut guest = ctx.run(&command).start()?;
        guest.wait_for("rested")?;
        let count = "cat /sys/kernel/debug/kvm/$(pidof vmm)-*/halt_attempted_poll";
        let count: u64 = ctx.run(count).expect_success()?.stdout.trim().parse()?;
        ensure!((count > 0) == polls, "with --halt-poll {most} KVM has polled {count} times");
        guest.send("on\n");
        ensure!(guest.finish()?.status == 0, "the guest did not power off");
    }
    ctx.run("rm /tmp/guest.cpio").expect_success()?;
    ctx.run("vmm run --halt-poll 5s").expect_status(2)?.stderr_contains("longer than KVM can poll")?;
    Ok(())
}
