//! Bad input: a clear message with a remedy, the documented exit status, everything wrong at once, nothing left behind.

use super::binding;
use crate::host::{HostSpec, NIC, NVME};
use crate::suite::{Case, Ctx, TestResult, case};

pub(super) fn all() -> Vec<Case> {
    let host = HostSpec::default;
    vec![
        case("refusals/kernels that are none", host(), kernels),
        case("refusals/initrds that are none", host(), initrds),
        case("refusals/numbers that make no sense", host(), numbers),
        case("refusals/devices that cannot be had", host(), devices),
        case("refusals/hosts that cannot", host(), hosts),
        case("refusals/a container that takes few maps", host(), few_maps),
        case("refusals/everything is said at once", host(), all_at_once),
        case("refusals/a device of the host", host().one_cpu().unbound(), bound_to_host),
        case("refusals/a group with others in it", binding::host(), shared_group),
    ]
}

/// Runs `vmm run ARGUMENTS`, which is to be refused with this status and these words.
fn refused(ctx: &Ctx, arguments: &str, status: i32, words: &[&str]) -> TestResult {
    let output = ctx.run(&format!("vmm run {arguments}")).expect_status(status)?;
    for words in words.iter().chain(&["error: ", " help: "]) {
        output.stderr_contains(words)?;
    }
    Ok(())
}

fn kernels(ctx: &Ctx) -> TestResult {
    ctx.run(
        "mkdir -p /tmp/bad; cd /tmp/bad; : > empty; echo '#!/bin/sh' > script; gzip -c /bin/busybox > packed
         head -c 100000 /boot/vmlinuz-$(uname -r) > cut; head -c 700 /boot/vmlinuz-*cloud* > cut-bzimage; truncate -s 3G zeros",
    )
    .expect_success()?;
    for (kernel, words) in [
        ("/tmp/bad/none", "it does not exist"),
        ("/tmp/bad/empty", "it is empty"),
        ("/tmp/bad", "it is a directory"),
        ("/tmp/bad/script", "it is not a kernel but a script"),
        ("/tmp/bad/packed", "it is not a kernel but a gzip file"),
        ("/tmp/bad/cut", "it is truncated: 100000 bytes"),
        ("/tmp/bad/cut-bzimage", "it is truncated: 700 bytes"),
        ("/tmp/bad/zeros", "nothing but zeros"),
        ("/bin/busybox", "not a kernel"),
    ] {
        refused(ctx, &format!("--kernel {kernel}"), 2, &["cannot use kernel", words])?;
    }
    // The kernel is good, the memory too little for it.
    refused(ctx, "--memory 16M", 2, &["the kernel needs guest memory at"])?;
    ctx.run("rm -r /tmp/bad").expect_success()?;
    Ok(())
}

fn initrds(ctx: &Ctx) -> TestResult {
    ctx.run(": > /tmp/empty; truncate -s 1G /tmp/large").expect_success()?;
    refused(ctx, "--initrd /tmp/none", 2, &["cannot use initrd /tmp/none", "it does not exist"])?;
    refused(ctx, "--initrd /tmp/empty", 2, &["it is empty"])?;
    refused(ctx, "--initrd /tmp", 2, &["it is a directory"])?;
    refused(ctx, "--initrd /tmp/large", 2, &["the initrd of 1024 MiB does not fit"])?;
    ctx.run("rm /tmp/empty /tmp/large").expect_success()?;
    Ok(())
}

fn numbers(ctx: &Ctx) -> TestResult {
    refused(ctx, "--memory 0", 2, &["--memory 0: a machine needs memory"])?;
    refused(ctx, "--memory 1000000", 2, &["--memory 1000000 is not a multiple of 4096 bytes"])?;
    refused(ctx, "--memory 8M", 2, &["less than 16 MiB"])?;
    refused(ctx, "--memory 64G", 4, &["guest memory of 64 GiB exceeds the host's"])?;
    refused(ctx, "--memory 13T", 2, &["guest memory of 13 TiB does not fit: the CPU has "])?;
    refused(ctx, "--memory many", 2, &["--memory `many` is not a size"])?;
    refused(ctx, "--cpus 0", 2, &["--cpus 0: a machine needs a processor"])?;
    refused(ctx, "--cpus 99999", 2, &["--cpus 99999: KVM on this host allows"])?;
    refused(
        ctx,
        "--cmdline $(head -c 5000 /dev/zero | tr '\\0' x)",
        2,
        &["the kernel command line is 5000 bytes long"],
    )?;
    Ok(())
}

fn devices(ctx: &Ctx) -> TestResult {
    refused(ctx, "--vfio nvme0", 2, &["--vfio `nvme0` is not a PCI address", "lspci -D"])?;
    refused(ctx, "--vfio 0000:7f:00.0", 3, &["there is no PCI device 0000:7f:00.0"])?;
    refused(ctx, &format!("--vfio {NVME} --vfio {NVME}"), 3, &["0000:00:01.0 is given twice"])?;
    let option = format!("--vfio {NVME},backend=vfio");
    refused(ctx, &option, 2, &["backend cannot be `vfio`", "its values are iommufd and container"])?;
    let mixed = format!("--vfio {NVME},backend=iommufd --vfio {NIC},backend=container");
    refused(ctx, &mixed, 2, &["0000:00:02.0 asks for a container, 0000:00:01.0 for iommufd"])?;
    Ok(())
}

fn hosts(ctx: &Ctx) -> TestResult {
    let lacks = |device: &str, then: &str| {
        format!("mv {device} /dev/away; {then}; s=$?; mv /dev/away {device}; exit $s")
    };
    let output = ctx.run(&lacks("/dev/kvm", "vmm run")).expect_status(3)?;
    output.stderr_contains("error: /dev/kvm does not exist")?.stderr_contains("modprobe kvm_intel")?;
    let output = ctx.run(&lacks("/dev/vfio", &format!("vmm run --vfio {NVME}"))).expect_status(3)?;
    output.stderr_contains("error: /dev/vfio/vfio does not exist")?.stderr_contains("modprobe vfio-pci")?;
    let output =
        ctx.run(&lacks("/dev/iommu", &format!("vmm run --vfio {NVME},backend=iommufd"))).expect_status(3)?;
    output.stderr_contains("error: /dev/iommu does not exist")?.stderr_contains("modprobe iommufd")?;
    let check = format!("vmm -v check --pin --memory 64M --vfio {NVME}");
    let output = ctx.run(&lacks("/dev/iommu", &check)).expect_success()?;
    output.stderr_contains("backend=container")?;
    // As somebody who may not.
    let nobody = "chmod 600 /dev/kvm; echo somebody:x:65534:65534::/:/bin/sh >> /etc/passwd; ulimit -l 64; su -s /bin/sh somebody -c";
    let output = ctx.run(&format!("{nobody} 'vmm run --vfio {NVME}'")).expect_status(3)?;
    output.stderr_contains("error: no permission to open /dev/kvm")?;
    output.stderr_contains("error: pinning the guest needs a memlock limit of 512 MiB, it is 64 KiB")?;
    output.stderr_contains("/dev/vfio/")?;
    Ok(())
}

/// Maps are as large as has to be, until that does not help any more.
fn few_maps(ctx: &Ctx) -> TestResult {
    let limited = |limit: u32| {
        let parameter = "/sys/module/vfio_iommu_type1/parameters/dma_entry_limit";
        let check = format!("vmm check --pin --memory 256M --vfio {NVME},backend=container");
        format!(
            "was=$(cat {parameter}); echo {limit} > {parameter}; {check}; s=$?; echo $was > {parameter}; exit $s"
        )
    };
    ctx.run(&limited(2)).expect_success()?.stderr_contains(": 65536 pages, 0 in CMA")?;
    let output = ctx.run(&limited(0)).expect_status(4)?;
    output
        .stderr_contains("error: mapping the guest takes 1 DMA maps, the container has room for 0")?
        .stderr_contains(" help: raise the limit")?;
    Ok(())
}

fn all_at_once(ctx: &Ctx) -> TestResult {
    let command =
        format!("--kernel /none --initrd /none --memory many --cpus 0 --vfio x --vfio {NVME} --vfio {NVME}");
    refused(ctx, &command, 2, &["kernel /none", "initrd /none", "`many`", "--cpus 0", "`x`", "given twice"])
}

fn bound_to_host(ctx: &Ctx) -> TestResult {
    refused(
        ctx,
        &format!("--vfio {NVME} --vfio {NIC}"),
        3,
        &[
            "0000:00:01.0 is bound to the host driver nvme",
            "0000:00:02.0 is bound to the host driver e1000e",
            "  vmm bind 0000:00:01.0",
        ],
    )?;
    // And the host still has it.
    ctx.run(&format!("readlink /sys/bus/pci/devices/{NVME}/driver"))
        .expect_success()?
        .stdout_contains("nvme")?;
    Ok(())
}

fn shared_group(ctx: &Ctx) -> TestResult {
    let (other, one) = binding::group_members(ctx)?;
    let device = format!("/sys/bus/pci/devices/{one}");
    ctx.run(&format!("echo vfio-pci > {device}/driver_override; echo {one} > /sys/bus/pci/drivers_probe"))
        .expect_success()?;
    refused(ctx, &format!("--vfio {one}"), 3, &[&one, &format!("{other} (e1000)")])?;
    ctx.run(&format!("echo {one} > {device}/driver/unbind; echo > {device}/driver_override"))
        .expect_success()?;
    Ok(())
}
