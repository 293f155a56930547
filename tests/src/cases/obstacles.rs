//! What is between a device and a guest, made for real: `vmm check --vfio` names each obstacle with its remedy.

use crate::host::{HostKernel, HostSpec, NVME};
use crate::suite::{Case, Ctx, Output, SAYS_READY, TestResult, case};

pub(super) fn all() -> Vec<Case> {
    // Behind a bridge without ACS both are one group.
    let group =
        "-device pcie-pci-bridge,id=br,addr=5 -device e1000,bus=br,addr=1,romfile= -device edu,bus=br,addr=2";
    let host = || HostSpec::default().unbound().aw_bits(39).qemu(group);
    vec![
        case("obstacles/bindings and groups", host(), bindings),
        case("obstacles/what a user may not have", host(), permissions),
        case("obstacles/what the IOMMU cannot map", host(), iommu),
        case(
            "obstacles/an IOMMU that is off",
            HostSpec::default().unbound().append("intel_iommu=off"),
            iommu_off,
        ),
        case(
            "obstacles/a module that is missing",
            HostSpec::default().kernel(HostKernel::Debian).one_cpu(),
            no_module,
        ),
    ]
}

/// Runs `vmm check ARGUMENTS`, which is to end with this status.
fn check(ctx: &Ctx, arguments: &str, status: i32) -> TestResult<Output> {
    ctx.run(&format!("vmm check {arguments}")).expect_status(status)
}

fn bindings(ctx: &Ctx) -> TestResult {
    let bus = ctx.run("basename $(ls -d /sys/bus/pci/devices/0000:00:05.0/0000:*:01.0)").expect_success()?;
    let first = bus.stdout.trim().to_owned();
    let second = first.replace(":01.0", ":02.0");

    check(ctx, "--memory 512M", 0)?
        .stdout_contains("ok: KVM can be used\nok: /boot/vmlinuz-")?
        .stdout_contains(" can be booted\nok: 512 MiB of memory can be had\nready\n")?;
    let found = check(ctx, &format!("--vfio {NVME} --vfio {second} --vfio 7f:00.0"), 3)?;
    found
        .stdout_contains("ok: KVM can be used\n")?
        .stdout_contains("problem: there is no PCI device 0000:7f:00.0\n")?
        .stdout_contains("problem: 0000:00:01.0 is bound to the host driver nvme\n")?
        .stdout_contains("\n           vmm bind 0000:00:01.0\n")?
        .stdout_contains(&format!(
            "problem: {second} is bound to no driver, and has to be bound to vfio-pci\n"
        ))?
        .stdout_contains(&format!("problem: {second} shares IOMMU group "))?
        .stdout_contains(&format!("with devices that the host uses: {first} (e1000)\n"))?
        .stdout_contains(&format!("\n           vmm bind --group {second}\n"))?
        .stdout_contains("\n4 problems\n")?;
    // The remedies are remedies.
    ctx.run(&format!("vmm bind {NVME} && vmm bind --group {second}")).expect_success()?;
    for (device, reset) in [(NVME, "reset by flr"), (&second, "cannot be reset by itself")] {
        check(ctx, &format!("--vfio {device}"), 0)?
            .stdout_contains(&format!("ok: {device} is bound to vfio-pci, IOMMU group "))?
            .stdout_contains(&format!(", {reset}\n"))?
            .stdout_contains("ok: 512 MiB of memory can be pinned\n")?
            .stdout_contains("ok: the IOMMU can map 512 MiB\nready\n")?;
    }
    check(ctx, "", 0)?
        .stdout_contains("ok: the IOMMU is on: Intel VT-d, 39-bit addresses, ")?
        .stdout_contains(
            "ok: the IOMMU remaps interrupts\nok: VFIO can be used, through iommufd and containers\n",
        )?
        .stdout_contains("ok: ready to be passed through: 0000:00:01.0, ")?
        .stdout_contains("ok: memlock is unlimited\n")?
        .stdout_contains("warning: CMA 1 GiB and ZONE_MOVABLE 0 bytes are ")?
        .stdout_contains("ok: io_uring can be used")?
        .stdout_contains("\nready, ")?;
    check(ctx, &format!("--vfio {NVME} --vfio {NVME}"), 3)?.stdout_contains("is given twice\n")?;
    let tiny = ctx.tiny(&SAYS_READY)?;
    let mut guest = ctx.run(&format!("vmm run {tiny} --vfio {NVME} --memory 64M --grace 0")).start()?;
    guest.wait_for("ready")?;
    check(ctx, &format!("--vfio {NVME}"), 3)?.stdout_contains("in use by vmm (pid ")?;
    ctx.run("kill -TERM $(pidof vmm)").expect_success()?;
    guest.finish()?;
    ctx.run(&format!("vmm unbind {NVME} && vmm unbind --group {second}")).expect_success()?;
    Ok(())
}

fn permissions(ctx: &Ctx) -> TestResult {
    ctx.run(&format!("vmm bind {NVME}; chmod 600 /dev/kvm")).expect_success()?;
    let as_nobody = |arguments: &str| {
        ctx.run(&format!("ulimit -l 64; su -s /bin/sh nobody -c 'vmm check {arguments}'")).expect_status(3)
    };
    let node = |backend: &str, name: &str| -> TestResult {
        as_nobody(&format!("--vfio {NVME},backend={backend}"))?
            .stdout_contains("problem: no permission to open /dev/kvm\n")?
            .stdout_contains(&format!(
                "problem: no permission to open /dev/vfio/{name}, which belongs to uid 0, gid 0 "
            ))?
            .stdout_contains(&format!(
                "help: run as its owner, or give the node away: chown USER /dev/vfio/{name}\n"
            ))?
            .stdout_contains("problem: pinning the guest needs a memlock limit of 512 MiB, it is 64 KiB\n")?
            .stdout_contains("help: raise it (ulimit -l 524288, ")?;
        Ok(())
    };
    let names = ctx.run(&format!(
        "cd /sys/bus/pci/devices/{NVME}; basename $(readlink iommu_group); echo devices/$(ls vfio-dev)"
    ));
    let names = names.expect_success()?;
    for (backend, name) in ["container", "iommufd"].into_iter().zip(names.stdout.lines()) {
        node(backend, name)?;
    }
    ctx.run(&format!("vmm unbind {NVME}")).expect_success()?;
    Ok(())
}

fn iommu(ctx: &Ctx) -> TestResult {
    ctx.run(&format!("vmm bind {NVME}")).expect_success()?;
    // More than the host has, and more than 39 bits can address.
    check(ctx, &format!("--vfio {NVME} --memory 600G"), 2)?
        .stdout_contains("problem: guest memory of 600 GiB exceeds the host's ")?
        .stdout_contains(&format!("ok: {NVME} is bound to vfio-pci"))?
        .stdout_contains(
            "problem: guest memory of 600 GiB does not fit: the IOMMU of the passed-through devices maps ",
        )?
        .stdout_contains("help: lower --memory to 511G or less\n2 problems\n")?;
    let limit = "/sys/module/vfio_iommu_type1/parameters/dma_entry_limit";
    let lowered = format!(
        "old=$(cat {limit}); echo 1 > {limit}; vmm check --memory 1100M --vfio {NVME},backend=container; s=$?; echo $old > {limit}; exit $s"
    );
    ctx.run(&lowered)
        .expect_status(4)?
        .stdout_contains("problem: mapping the guest takes 2 DMA maps, the container has room for 1\n")?
        .stdout_contains("echo 65535 > /sys/module/vfio_iommu_type1/parameters/dma_entry_limit")?;
    ctx.run(&format!("vmm unbind {NVME}")).expect_success()?;
    Ok(())
}

fn iommu_off(ctx: &Ctx) -> TestResult {
    check(ctx, &format!("--vfio {NVME}"), 3)?
        .stdout_contains("problem: 0000:00:01.0 has no IOMMU group: the IOMMU is off\n")?
        .stdout_contains("boot the host with intel_iommu=on (Intel)")?;
    let refused = ctx.run(&format!("vmm bind {NVME}")).expect_status(3)?;
    refused.stderr_contains("error: 0000:00:01.0 has no IOMMU group: the IOMMU is off")?;
    ctx.run("vmm devices").expect_success()?.stdout_contains("  no: the IOMMU is off\n")?;
    // More is broken than that.
    let sysctl = "/proc/sys/kernel/io_uring_disabled";
    let broken = format!(
        "chmod 600 /dev/kvm; echo 2 > {sysctl}; ulimit -l 64; su -s /bin/sh nobody -c 'vmm check'; s=$?; \
         chmod 666 /dev/kvm; echo 0 > {sysctl}; exit $s"
    );
    ctx.run(&broken)
        .expect_status(3)?
        .stdout_contains("problem: no permission to open /dev/kvm\n")?
        .stdout_contains("problem: the IOMMU is off: no device can be passed through\n   help: the firmware has it on; boot")?
        .stdout_contains("problem: memlock is 64 KiB: ")?
        .stdout_contains("warning: io_uring is forbidden (kernel.io_uring_disabled is 2): ")?
        .stdout_contains("   help: sysctl -w kernel.io_uring_disabled=0")?;
    Ok(())
}

fn no_module(ctx: &Ctx) -> TestResult {
    // Modules that were loaded for the devices keep them.
    let bound = "cd /sys/bus/pci/drivers/vfio-pci; ls -d 0000:*";
    let devices = ctx.run(bound).expect_success()?.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    ctx.run(&format!("vmm unbind {devices} && rmmod vfio-pci")).expect_success()?;
    let refused = ctx.run(&format!("vmm bind {NVME}")).expect_status(3)?;
    refused.stderr_contains("error: the host has no vfio-pci driver\n   help: modprobe vfio-pci\n")?;
    let remedy = format!("\n           modprobe vfio-pci\n           vmm bind {NVME}\n");
    check(ctx, &format!("--vfio {NVME}"), 3)?.stdout_contains(&remedy)?;
    ctx.run(&format!("modprobe vfio-pci && vmm bind {devices}")).expect_success()?;
    check(ctx, &format!("--vfio {NVME}"), 0)?.stdout_contains("\nready\n")?;
    Ok(())
}
