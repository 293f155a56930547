//! A host with more devices to pass through than the NVMe and the NIC, and guests that poke at them with busybox alone.

use crate::host::HostSpec;
use crate::suite::{Ctx, GuestInitrd, Interactive, Output, TestResult};

/// QEMU's device for teaching: registers that compute, a DMA engine, an interrupt on demand (docs/specs/edu.rst).
pub(super) const EDU: &str = "0000:00:03.0";
/// An Intel 82540EM: conventional PCI, INTx and nothing else.
pub(super) const E1000: &str = "0000:00:04.0";
/// 256 bytes of registers, and 1 MiB of memory in a 64-bit BAR.
pub(super) const MEMORY: &str = "0000:00:05.0";
/// QEMU's pci-testdev: a page of memory, 256 I/O ports.
pub(super) const TESTDEV: &str = "0000:00:06.0";
/// A display with an expansion ROM.
pub(super) const DISPLAY: &str = "0000:00:07.0";
/// As [`MEMORY`], with 128 GiB.
pub(super) const LARGE: &str = "0000:00:08.0";
/// A SATA controller with a disk.
pub(super) const AHCI: &str = "0000:00:09.0";
/// A USB controller with a stick.
pub(super) const XHCI: &str = "0000:00:0a.0";
/// An Intel 82576, without virtual functions.
pub(super) const IGB: &str = "0000:00:0b.0";
/// A USB controller with 16 MSI vectors, and no MSI-X.
pub(super) const MSI_XHCI: &str = "0000:00:0c.0";

/// A root port, and behind it a device that can be told to report errors: of QEMU's endpoints only virtio's can.
pub(super) const ROOT_PORT: &str = "0000:00:0e.0";
/// An NVMe with 2,048 vectors.
pub(super) const MANY: &str = "0000:00:0f.0";
/// Two functions of one device.
pub(super) const FUNCTIONS: [&str; 2] = ["0000:00:10.0", "0000:00:10.1"];

/// What the additional disks hold: the host's kernel, which is always there. Writes are forgotten.
const DISK: &str = "-drive if=none,format=raw,snapshot=on,file=HOST_KERNEL";

/// A function of shells that waits until a disk can be opened, which is a moment after its node is there (`block/genhd.c`:
/// `device_add`, then `bdev_add`).
pub(super) const OPENS: &str = "opens() { until (: < $1) 2>/dev/null; do usleep 20000; done; }\n";

/// The host that has them all.
pub(super) fn host() -> HostSpec {
    HostSpec::default()
        .one_cpu()
        .qemu("-device edu,addr=3,dma_mask=0xffffffffffff")
        .qemu("-netdev user,id=old -device e1000,netdev=old,addr=4,romfile=")
        .qemu("-object memory-backend-ram,id=memory,size=1M -device ivshmem-plain,memdev=memory,addr=5")
        .qemu("-device pci-testdev,addr=6")
        .qemu("-device bochs-display,addr=7")
        .qemu("-object memory-backend-ram,id=large,size=128G,reserve=off -device ivshmem-plain,memdev=large,addr=8")
        .qemu(&format!("{DISK},id=hard-disk -device ich9-ahci,id=sata,addr=9 -device ide-hd,drive=hard-disk,bus=sata.0"))
        .qemu(&format!("{DISK},id=stick -device qemu-xhci,id=usb,addr=0xa -device usb-storage,drive=stick,bus=usb.0"))
        .qemu("-netdev user,id=sriov -device igb,netdev=sriov,addr=0xb")
        .qemu("-device nec-usb-xhci,msi=on,msix=off,addr=0xc")
        .qemu("-device pcie-root-port,id=above,chassis=1,addr=0xe")
        .qemu("-device virtio-rng-pci,id=failing,bus=above,aer=on,iommu_platform=on,disable-legacy=on")
        .qemu("-drive if=none,id=many,driver=null-co,read-zeroes=on,size=16M")
        .qemu("-device nvme,drive=many,serial=many,addr=0xf,msix_qsize=2048,max_ioqpairs=2047")
        .qemu("-device e1000e,addr=10.0,multifunction=on,romfile= -device e1000e,addr=10.1,romfile=")
}

/// Binds devices to vfio-pci.
pub(super) fn bind(ctx: &Ctx, devices: &[&str]) -> TestResult {
    let script = "cd /sys/bus/pci/devices/$d; echo vfio-pci > driver_override; \
                  [ ! -e driver ] || echo $d > driver/unbind; echo $d > /sys/bus/pci/drivers_probe";
    ctx.run(&format!("set -e; for d in {}; do {script}; done", devices.join(" "))).expect_success()?;
    Ok(())
}

/// Gives a device to the host's own driver, whichever has it now: cases before may have bound it.
pub(super) fn give_back(ctx: &Ctx, device: &str) -> TestResult {
    let script = "cd /sys/bus/pci/devices/$d; echo > driver_override; \
                  case $(readlink driver) in *vfio*) echo $d > driver/unbind; echo $d > /sys/bus/pci/drivers_probe;; esac";
    ctx.run(&format!("d={device}; {script}")).expect_success()?;
    Ok(())
}

/// What scripts of guests have at hand. Devices go by their addresses in the guest, numbers as the shell writes them.
const TOOLS: &str = r#"
# Where BAR $2 of device $1 is.
bar() { sed -n "$(($2 + 1))p" /sys/bus/pci/devices/$1/resource | cut -d' ' -f1; }
# Reads or, with a value, writes 32 bits of memory at $1 + $2.
mem() { devmem $(($1 + $2)) 32 $3; }
# Reads a dword of configuration space at $2.
conf() { dd if=/sys/bus/pci/devices/$1/config bs=4 skip=$(($2 / 4)) count=1 2>/dev/null | hexdump -e '"0x%08x"'; }
# Writes one.
setconf() {
    printf "$(printf '\\x%02x\\x%02x\\x%02x\\x%02x' $(($3 & 255)) $(($3 >> 8 & 255)) $(($3 >> 16 & 255)) $(($3 >> 24 & 255)))" |
        dd of=/sys/bus/pci/devices/$1/config bs=4 seek=$(($2 / 4)) conv=notrunc 2>/dev/null
}
"#;

/// Passes devices to a guest that runs `script` and powers off.
pub(super) fn guest(ctx: &Ctx, devices: &[&str], cmdline: &str, script: &str) -> TestResult<Output> {
    ctx.run(&with_guest(ctx, devices, 1, cmdline, script)?).deadline(240).expect_success()
}

/// The same, for a script that wants a second CPU.
pub(super) fn guest_of_two_cpus(
    ctx: &Ctx,
    devices: &[&str],
    cmdline: &str,
    script: &str,
) -> TestResult<Output> {
    ctx.run(&with_guest(ctx, devices, 2, cmdline, script)?).deadline(240).expect_success()
}

/// A guest of one CPU whose script is talked to.
pub(super) fn start<'a>(
    ctx: &'a Ctx,
    devices: &[&str],
    cmdline: &str,
    script: &str,
) -> TestResult<Interactive<'a>> {
    ctx.run(&with_guest(ctx, devices, 1, cmdline, script)?).deadline(240).start()
}

/// Puts the guest there; gives the command that runs it.
fn with_guest(ctx: &Ctx, devices: &[&str], cpus: u32, cmdline: &str, script: &str) -> TestResult<String> {
    let initrd = GuestInitrd::with_script(ctx.artefacts, &format!("{TOOLS}{script}\npoweroff -f"))?;
    ctx.put("/tmp/guest.cpio", &initrd.build()?)?;
    let vfio: String = devices.iter().map(|device| format!("--vfio {device} ")).collect();
    Ok(format!(
        "vmm -v run {vfio} --memory 128M --cpus {cpus} --initrd /tmp/guest.cpio --cmdline \
         'console=ttyS0 quiet panic=-1 {cmdline}'; status=$?; rm /tmp/guest.cpio; exit $status"
    ))
}
