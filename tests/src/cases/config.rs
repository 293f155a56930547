//! Machines from files, with flags over them; and the steps that README.md tells people to take.

use crate::host::{HostSpec, NIC, NVME};
use crate::suite::{Case, Ctx, TestResult, case, ensure};

pub(super) fn all() -> Vec<Case> {
    let host = || HostSpec::default().one_cpu();
    vec![
        case("config/a machine from a file, with flags over it", host(), file_and_flags),
        case("config/everything that a file and flags have wrong is said at once", host(), wrong),
        case("config/the steps of the README, as they are there", host().unbound(), readme),
    ]
}

const FILE: &str = "\
memory = \"4T\"
cpus = 2
cmdline = \"console=ttyS0 quiet vmm.then=poweroff\"

[[vfio]]
device = \"0000:00:02.0\"
backend = \"container\"
";

fn file_and_flags(ctx: &Ctx) -> TestResult {
    ctx.put("/tmp/vm.toml", FILE.as_bytes())?;
    let typed = format!("--config /tmp/vm.toml --memory 256M --vfio {NVME},port");
    let dry = ctx.run(&format!("vmm run {typed} --dry-run")).expect_success()?;
    for line in [
        "kernel = \"/boot/vmlinuz-",
        "# found on the host",
        "memory = \"256M\"  # --memory",
        "cpus = 2  # /tmp/vm.toml:2",
        "pin-deadline = \"10s\"  # default",
        &format!("device = \"{NIC}\"  # /tmp/vm.toml:6"),
        &format!("device = \"{NVME}\"  # --vfio"),
    ] {
        dry.stdout_contains(line)?;
    }
    ctx.run(&format!("vmm check {typed}"))
        .expect_success()?
        .stdout_contains("ok: 256 MiB of memory can be pinned")?;

    // What a dry run prints is the machine, too.
    ctx.put("/tmp/dry.toml", dry.stdout.as_bytes())?;
    let guest = ctx.run("vmm run --config /tmp/dry.toml --events fd=3 3>/tmp/events").expect_success()?;
    guest.stdout_contains("cpus 2 online")?;
    guest.stdout_contains("read 8 MiB from /dev/nvme0n1")?;
    guest.stderr_contains(&format!("pinned 256 MiB for {NIC}, {NVME}: 65536 pages"))?;
    let events = ctx.run("cat /tmp/events").expect_success()?;
    for line in [
        "{\"event\":\"pinning\",\"step\":\"pinning\",",
        "{\"event\":\"phase\",\"name\":\"pin and map memory\",",
        "{\"event\":\"running\",\"cpus\":2,\"memory_bytes\":268435456,",
        "{\"event\":\"ended\",\"code\":0,\"cause\":\"powered-off\",",
    ] {
        events.stdout_contains(line)?;
    }
    ctx.run("rm /tmp/vm.toml /tmp/dry.toml /tmp/events").expect_success()?;
    Ok(())
}

fn wrong(ctx: &Ctx) -> TestResult {
    ctx.put("/tmp/wrong.toml", b"memmory = \"1G\"\n\n[[vfio]]\ndevice = \"nvme0\"\n")?;
    let output =
        ctx.run("vmm run --config /tmp/wrong.toml --grace soon --kernel /tmp/none").expect_status(2)?;
    for words in [
        "/tmp/wrong.toml:1:1: there is no key `memmory`",
        "did you mean `memory`?",
        "/tmp/wrong.toml:4:1: device `nvme0` is not a PCI address",
        "--grace `soon` is not a duration",
        "cannot use kernel /tmp/none",
    ] {
        output.stderr_contains(words)?;
    }
    ctx.put("/tmp/wrong.toml", b"memory = \ncpus = 'x\n")?;
    let output = ctx.run("vmm check --config /tmp/wrong.toml").expect_status(2)?;
    output.stderr_contains("/tmp/wrong.toml:1:10: ")?.stderr_contains("/tmp/wrong.toml:2:")?;
    ctx.run("rm /tmp/wrong.toml").expect_success()?;
    ctx.run("vmm run --config /tmp/none")
        .expect_status(2)?
        .stderr_contains("cannot read --config /tmp/none")?;
    Ok(())
}

/// What stands in README.md is done with the drive of this host.
fn readme(ctx: &Ctx) -> TestResult {
    let page = include_str!("../../../README.md");
    for (step, said) in [
        ("vmm devices", "after vmm bind"),
        ("modprobe vfio-pci || true; vmm bind 0000:01:00.0", "vfio-pci (was nvme)"),
        ("vmm check --vfio 0000:01:00.0", "ready"),
        ("vmm run --memfd --vfio 0000:01:00.0", "summary complete: 2 PCI devices, 1 disks read, 0 problems"),
        ("vmm unbind 0000:01:00.0", "nvme (was vfio-pci)"),
    ] {
        let typed = step.rsplit("; ").next().unwrap_or(step);
        ensure!(
            typed.starts_with("vmm unbind") || page.contains(&format!("\n    {typed}\n")),
            "README.md has no `{typed}`"
        );
        ctx.run(&step.replace("0000:01:00.0", NVME)).expect_success()?.stdout_contains(said)?;
    }
    Ok(())
}
