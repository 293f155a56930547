//! Guests boot, whatever the kernel's format and wherever their memory lies, and end as they say.

use crate::host::HostSpec;
use crate::suite::{Case, Ctx, GuestInitrd, POWERS_OFF, QUIET, TestResult, case, ensure, tiny_kernel};

pub(super) fn all() -> Vec<Case> {
    let host = || HostSpec::default().one_cpu();
    vec![
        case("boot/the default guest needs no flags", host(), default_guest),
        case(
            "boot/an ELF kernel runs on two CPUs, beside free root ports, and complains of nothing",
            host(),
            two_cpus,
        ),
        case("long/16 CPUs on two of the host's", HostSpec::default(), many_cpus),
        case("long/Debian's bzImage reaches user space", host(), debian),
        case(
            "boot/memory above 4 GiB is the guest's",
            HostSpec::default().aw_bits(39).memory(6144),
            above_4_gib,
        ),
        case("boot/the clock is the host's", host(), clock),
        case("boot/a reboot is not an end", host(), reboots),
        case("boot/a triple fault is a failure that says where", host(), triple_fault),
        case("boot/a panic is told, and ends or resets the guest", host(), panics),
        case("boot/the debug-exit port sets the status", host(), debug_exit),
        case("boot/a guest that powers off ends vmm, is reset, or leaves vmm to be asked", host(), on_exit),
    ]
}

fn default_guest(ctx: &Ctx) -> TestResult {
    let guest = ctx.run("vmm run").expect_success()?;
    guest.stdout_contains("cpus 1 online")?;
    guest.stdout_contains("summary complete: 1 PCI devices, 0 disks read, 0 problems")?;
    guest.stdout_contains("reboot: Power down")?;
    ensure!(guest.stderr == "vmm: the guest powered off\n", "standard error is {:?}", guest.stderr);
    Ok(())
}

/// Each waits most of the time for one of the others that does not run. The lab's own kernel knows of eight.
fn many_cpus(ctx: &Ctx) -> TestResult {
    let release = &ctx.artefacts.debian.release;
    let command = format!("vmm run {QUIET} --kernel /boot/vmlinuz-{release} --memory 512M --cpus 16");
    let guest = ctx.run(&command).deadline(550).expect_success()?;
    guest.stdout_contains("cpus 16 online")?;
    Ok(())
}

/// What the guest's kernel says is looked through there: each byte of it on the console takes emulation long.
fn two_cpus(ctx: &Ctx) -> TestResult {
    let script = "echo online $(cat /sys/devices/system/cpu/online)
        dmesg | grep -E 'Brought up|Root Bridge|_OSC|Slot #|ACPI (Error|Warning|BIOS)|Firmware Bug|WARNING:|BUG:|no space|assign'
        cd /sys/bus/pci/devices; for d in *; do echo $d $(cat $d/vendor $d/device) $(basename $(readlink $d/driver)); done
        poweroff -f";
    ctx.put("/tmp/guest.cpio", &GuestInitrd::with_script(ctx.artefacts, script)?.build()?)?;
    let guest = ctx
        .run(&format!("vmm run {QUIET} --cpus 2 --memory 128M --pcie-ports 3 --initrd /tmp/guest.cpio; rm /tmp/guest.cpio"))
        .expect_success()?;
    guest.stdout_contains("online 0-1")?;
    guest.stdout_contains("smp: Brought up 1 node, 2 CPUs")?;
    guest.stdout_contains("ACPI: PCI Root Bridge [PCI0]")?;
    for complaint in ["ACPI Error", "ACPI Warning", "ACPI BIOS", "[Firmware Bug]", "WARNING:", "BUG:"] {
        guest.stdout_lacks(complaint)?;
    }
    for complaint in ["no space", "an't assign", "ailed to assign"] {
        guest.stdout_lacks(complaint)?;
    }
    for port in 1..=3 {
        let device = format!("0000:00:{port:02x}.0");
        guest.stdout_contains(&format!("{device} 0x1b36 0x000c pcieport"))?;
        guest.stdout_contains(&format!("pcieport {device}: pciehp: Slot #{port} AttnBtn+ PwrCtrl+"))?;
    }
    guest.stdout_contains("_OSC: OS now controls [PCIeHotplug PCIeCapability]")?;
    Ok(())
}

fn debian(ctx: &Ctx) -> TestResult {
    let release = &ctx.artefacts.debian.release;
    let command = format!("vmm run {QUIET} --kernel /boot/vmlinuz-{release} --memory 512M --cpus 2");
    let guest = ctx.run(&command).deadline(300).expect_success()?;
    guest.stdout_contains(&format!("kernel {release} x86_64"))?;
    guest.stdout_contains("cpus 2 online")?;
    Ok(())
}

fn above_4_gib(ctx: &Ctx) -> TestResult {
    let script = "grep -i 'system ram' /proc/iomem; poweroff -f";
    let initrd = GuestInitrd::with_script(ctx.artefacts, script)?;
    ctx.put("/tmp/guest.cpio", &initrd.build()?)?;
    let guest = ctx
        .run(&format!("vmm run {QUIET} --memory 3200M --initrd /tmp/guest.cpio; rm /tmp/guest.cpio"))
        .expect_success()?;
    guest.stdout_contains("-bfffffff : System RAM")?;
    guest.stdout_contains("100000000-107ffffff : System RAM")?;
    Ok(())
}

fn clock(ctx: &Ctx) -> TestResult {
    let initrd = GuestInitrd::with_script(ctx.artefacts, "echo epoch $(date +%s); poweroff -f")?;
    ctx.put("/tmp/guest.cpio", &initrd.build()?)?;
    let before = seconds(&ctx.run("echo epoch $(date +%s)").expect_success()?.stdout)?;
    let guest = ctx
        .run(&format!("vmm run {QUIET} --memory 128M --initrd /tmp/guest.cpio; rm /tmp/guest.cpio"))
        .expect_success()?;
    let after = seconds(&ctx.run("echo epoch $(date +%s)").expect_success()?.stdout)?;
    let said = seconds(&guest.stdout)?;
    // The clock has a resolution of a second.
    ensure!((before - 1..=after + 1).contains(&said), "{said} is not in {before}..={after}");
    Ok(())
}

fn seconds(text: &str) -> TestResult<i64> {
    let line = text.lines().find_map(|line| line.trim().strip_prefix("epoch "));
    Ok(line.unwrap_or_default().trim().parse()?)
}

fn reboots(ctx: &Ctx) -> TestResult {
    let mut guest = ctx.run(&format!("vmm run {QUIET} --cpus 2 --memory 128M")).deadline(240).start()?;
    guest.wait_for("vmm> ")?;
    guest.send("reboot\n");
    guest.wait_for("vmm> ")?;
    guest.send("poweroff\n");
    let guest = guest.finish()?;
    ensure!(guest.status == 0, "it ended with status {}", guest.status);
    ensure!(guest.stderr.matches("the guest reboots").count() == 1, "it did not reboot once");
    Ok(())
}

fn triple_fault(ctx: &Ctx) -> TestResult {
    let command = "vmm run --memory 128M --cmdline 'console=ttyS0 quiet reboot=t vmm.then=reboot'";
    let guest = ctx.run(command).expect_status(1)?;
    guest.stderr_contains("error: the guest failed\n  cause: triple fault on vCPU 0 at rip 0x")?;
    Ok(())
}

fn panics(ctx: &Ctx) -> TestResult {
    // The kernel itself would stand still for ever.
    let script = "echo ready; read what; [ $what = on ] && poweroff -f; echo c > /proc/sysrq-trigger";
    ctx.put("/tmp/guest.cpio", &GuestInitrd::with_script(ctx.artefacts, script)?.build()?)?;
    let start = |how: &str| {
        let cmdline = "--cmdline 'console=ttyS0 quiet panic=0'";
        ctx.run(&format!("vmm run --on-panic {how} --memory 128M --initrd /tmp/guest.cpio {cmdline}"))
    };
    let stopped = start("stop").stdin("panic\n").expect_status(1)?;
    stopped.stdout_contains("Kernel panic - not syncing: sysrq triggered crash")?;
    stopped.stderr_contains("error: the guest has panicked\n")?;
    let mut reset = start("reset").start()?;
    // What is typed before it is reset is the first run's.
    for line in ["panic\n", "on\n"] {
        reset.wait_for("ready")?;
        reset.send(line);
    }
    let reset = reset.finish()?;
    ensure!(reset.status == 0, "it ended with status {}", reset.status);
    reset.stderr_contains("the guest has panicked and is reset")?;
    ctx.run("rm /tmp/guest.cpio").expect_success()?;
    Ok(())
}

fn debug_exit(ctx: &Ctx) -> TestResult {
    // mov al, 5; out 0xf4, al; mov dx, 0x602; mov al, 6; out dx, al; hlt
    let code = [0xb0, 5, 0xe6, 0xf4, 0x66, 0xba, 0x02, 0x06, 0xb0, 6, 0xee, 0xf4];
    ctx.put("/tmp/kernel", &tiny_kernel(&code))?;
    let exit = ctx.run("vmm run --kernel /tmp/kernel --debug-exit").expect_status(5 << 1 | 1)?;
    exit.stderr_contains("vmm: the guest wrote 0x5 to the debug-exit port\n")?;
    // Without the flag nothing answers at the port, and the guest resets for ever.
    let resets = ctx.run("timeout -s TERM 3 vmm run --kernel /tmp/kernel; rm /tmp/kernel").output()?;
    resets.stderr_contains("vmm: the guest reboots")?;
    resets.stderr_contains("vmm: stopped by SIGTERM")?;
    Ok(())
}

fn on_exit(ctx: &Ctx) -> TestResult {
    ctx.put("/tmp/kernel", &tiny_kernel(&POWERS_OFF))?;
    let vmm = "vmm run --kernel /tmp/kernel --initrd none --memory 32M";
    ctx.run(vmm).expect_success()?.stderr_contains("vmm: the guest powered off\n")?;
    let mut reset = ctx.run(&format!("exec {vmm} --on-exit reset 2>&1")).start()?;
    for _ in 0..2 {
        reset.wait_for("the guest has powered off and is reset")?;
    }
    ctx.run("kill -TERM $(pidof vmm)").expect_success()?;
    let reset = reset.finish()?;
    reset.stdout_contains("vmm: stopped by SIGTERM\n")?;
    ensure!(reset.status == 0, "it ended with status {}", reset.status);

    let refused = ctx.run(&format!("{vmm} --on-exit keep")).expect_status(2)?;
    refused.stderr_contains("error: --on-exit keep: without --api-socket")?;
    let keep = format!("exec {vmm} --on-exit keep --api-socket /tmp/kept.sock --events /tmp/events 2>&1");
    let mut kept = ctx.run(&keep).start()?;
    for _ in 0..2 {
        kept.wait_for("vmm: the guest powered off, and --on-exit is keep: waiting for requests\n")?;
        ctx.run("vmm ctl -s /tmp/kept.sock phases").expect_success()?.stdout_contains("load kernel")?;
        // It may be over before it is answered.
        ctx.run("vmm ctl -s /tmp/kept.sock boot").output()?;
    }
    ctx.run("vmm ctl -s /tmp/kept.sock shutdown-vmm").expect_success()?;
    let kept = kept.finish()?;
    kept.stdout_contains("vmm: stopped by request\n")?;
    ensure!(kept.status == 0, "it ended with status {}", kept.status);
    ctx.run("grep -c '\"event\":\"kept\"' /tmp/events; rm /tmp/events /tmp/kernel").expect_success()?;
    Ok(())
}
