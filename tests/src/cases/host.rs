//! Lab hosts are what they are meant to be.

use crate::host::{HostKernel, HostSpec, NIC, NVME};
use crate::setup::{check_host, group_members};
use crate::suite::{Case, Ctx, TestResult, case, ensure};

pub(super) fn all() -> Vec<Case> {
    let host = HostSpec::default;
    vec![
        case("host/is as asked", host(), is_as_asked),
        case("host/both VFIO interfaces name the devices", host(), vfio_interfaces),
        case("host/memlock is unlimited", host(), memlock),
        case("host/ships kernels for guests", host(), kernels),
        case("host/IOMMU of 39 bits", host().aw_bits(39), narrow_iommu),
        case("host/unbound devices work", host().one_cpu().unbound(), unbound),
        case("host/CMA takes most of the memory above 4 GiB", host().mostly_cma(), mostly_cma),
        case("host/populated memory lands in CMA", host().mostly_cma(), populated_lands_in_cma),
        case("host/Debian's kernel does the same work", host().kernel(HostKernel::Debian).one_cpu(), debian),
    ]
}

fn is_as_asked(ctx: &Ctx) -> TestResult {
    let problems = check_host(ctx.host)?;
    ensure!(problems.is_empty(), "{}", problems.join("; "));
    Ok(())
}

fn vfio_interfaces(ctx: &Ctx) -> TestResult {
    for address in [NVME, NIC] {
        let group = ctx.run(&format!("basename $(readlink /sys/bus/pci/devices/{address}/iommu_group)"));
        let group = group.expect_success()?;
        ctx.run(&format!("test -c /dev/vfio/{}", group.stdout.trim())).expect_success()?;
        let cdev =
            ctx.run(&format!("test -c /dev/vfio/devices/$(ls /sys/bus/pci/devices/{address}/vfio-dev)"));
        cdev.expect_success()?;
    }
    Ok(())
}

fn memlock(ctx: &Ctx) -> TestResult {
    ctx.run("ulimit -l").expect_success()?.stdout_contains("unlimited")?;
    Ok(())
}

fn kernels(ctx: &Ctx) -> TestResult {
    let debian = &ctx.artefacts.debian.release;
    ctx.run("head -c 4 /boot/vmlinuz-$(uname -r)").expect_success()?.stdout_contains("ELF")?;
    ctx.run(&format!("test -s /boot/vmlinuz-{debian}")).expect_success()?;
    ctx.run(&format!("test -s /lib/modules/{debian}/modules.dep")).expect_success()?;
    Ok(())
}

fn narrow_iommu(ctx: &Ctx) -> TestResult {
    // MGAW, bits 16 to 21 of the capability register, is the width less one (VT-d specification, 11.4.2).
    let capability = ctx.run("cat /sys/class/iommu/dmar0/intel-iommu/cap").expect_success()?;
    let capability = u64::from_str_radix(capability.stdout.trim(), 16)?;
    let width = ((capability >> 16) & 0x3f) + 1;
    ensure!(width == 39, "the IOMMU has {width} address bits, not 39");
    Ok(())
}

fn unbound(ctx: &Ctx) -> TestResult {
    ctx.run(&format!("readlink /sys/bus/pci/devices/{NVME}/driver"))
        .expect_success()?
        .stdout_contains("nvme")?;
    ctx.run(&format!("readlink /sys/bus/pci/devices/{NIC}/driver"))
        .expect_success()?
        .stdout_contains("e1000e")?;
    let sum = ctx.run("dd if=/dev/nvme0n1 bs=1M count=1 | sha256sum").expect_success()?;
    sum.stdout_contains(&ctx.artefacts.disk.sha256(1 << 20)?)?;
    let nic = "ip link set eth0 up && udhcpc -i eth0 -n -q -s /bin/true";
    ctx.run(nic).deadline(60).expect_success()?.stderr_contains("lease of 10.0.2.15 obtained")?;
    Ok(())
}

fn mostly_cma(ctx: &Ctx) -> TestResult {
    let total = ctx.run("grep CmaTotal /proc/meminfo").expect_success()?;
    total.stdout_contains(&format!("{} kB", 900 * 1024))?;
    Ok(())
}

fn populated_lands_in_cma(ctx: &Ctx) -> TestResult {
    let free = |when: &str| -> TestResult<u64> {
        let line = ctx.run("grep CmaFree /proc/meminfo").expect_success()?;
        let kib = line.stdout.split_whitespace().nth(1).unwrap_or_default();
        kib.parse().map_err(|e| crate::suite::Failure::new(format!("CmaFree {when}: {kib:?}: {e}")))
    };
    let before = free("before")?;
    ctx.run("dd if=/dev/zero of=/dev/shm/fill bs=1M count=512 2>/dev/null").expect_success()?;
    let after = free("after")?;
    ctx.run("rm /dev/shm/fill").expect_success()?;
    let taken = before.saturating_sub(after) / 1024;
    ensure!(taken > 256, "of 512 MiB only {taken} MiB went to CMA");
    Ok(())
}

fn debian(ctx: &Ctx) -> TestResult {
    ctx.run("uname -r").expect_success()?.stdout_contains(&ctx.artefacts.debian.release)?;
    for device in ["/dev/kvm", "/dev/vfio/vfio", "/dev/net/tun"] {
        ctx.run(&format!("test -c {device}")).expect_success()?;
    }
    ensure!(ctx.host.problems().is_empty(), "{}", ctx.host.problems().join("; "));
    let members = group_members(ctx.host, NVME)?;
    ensure!(members == [NVME], "the NVMe's group holds {members:?}");
    ctx.run(&format!("readlink /sys/bus/pci/devices/{NVME}/driver"))
        .expect_success()?
        .stdout_contains("vfio-pci")?;
    Ok(())
}
