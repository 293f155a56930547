//! BARs of passed-through devices, of every kind and size, wherever the guest puts them, and devices that reach each
//! other's.

use super::extra::{self, DISPLAY, EDU, LARGE, MEMORY, TESTDEV};
use crate::host::NVME;
use crate::suite::{Case, Ctx, POWERS_OFF, QUIET, TestResult, case, ensure};

pub(super) fn all() -> Vec<Case> {
    vec![
        // An IOMMU that is narrower than the guest's address space.
        case("bars/ports, a part of a page, 128 GiB, a ROM", extra::host().aw_bits(39), kinds),
        // QEMU's IOMMU maps to no physical address that is wider than its own, as the 64-bit BARs of its host are.
        case("bars/moved by the guest, peers follow, container", extra::host(), |ctx| {
            moved(ctx, "container")
        }),
        case("bars/moved by the guest, peers follow, iommufd", extra::host(), |ctx| moved(ctx, "iommufd")),
        case("bars/peers that cannot reach each other are worth a warning", extra::host(), no_peers),
    ]
}

fn kinds(ctx: &Ctx) -> TestResult {
    let devices = [MEMORY, TESTDEV, DISPLAY, LARGE];
    extra::bind(ctx, &devices)?;
    let rom = format!("cd /sys/bus/pci/devices/{DISPLAY}; echo 1 > rom; sha256sum < rom; echo 0 > rom");
    let rom = ctx.run(&rom).expect_success()?.stdout;
    let script = r#"
        memory=0000:00:01.0; testdev=0000:00:02.0; display=0000:00:03.0; large=0000:00:04.0
        for d in $memory $testdev $display $large; do echo 1 > /sys/bus/pci/devices/$d/enable; done

        # Ports: a byte written to where the device says counts.
        ports=/sys/bus/pci/devices/$testdev/resource1
        byte() { dd if=$ports bs=1 skip=$1 count=1 2>/dev/null | hexdump -e '1/1 "%d"'; }
        printf '\x00' | dd of=$ports bs=1 conv=notrunc 2>/dev/null
        echo "before $(byte 12)"
        dd if=$ports bs=1 skip=8 count=1 2>/dev/null | dd of=$ports bs=1 seek=$(byte 4) conv=notrunc 2>/dev/null
        echo "after $(byte 12)"

        b=$(bar $memory 0); mem $b 0 0x5a5a1234; echo "part of a page $(mem $b 0)"

        b=$(bar $large 2); echo "large at $b"
        for o in 0 0x1000000000 0x1ffffffffc; do mem $b $o $((0x11110000 + o / 0x1000000000)); done
        for o in 0 0x1000000000 0x1ffffffffc; do echo "at $o $(mem $b $o)"; done

        cd /sys/bus/pci/devices/$display; echo 1 > rom; echo "rom $(sha256sum < rom)""#;
    let guest = extra::guest(ctx, &devices, "", script)?;
    for line in [
        "before 0",
        "after 1",
        "part of a page 0x5A5A1234",
        "large at 0x0000002000000000",
        "at 0 0x11110000",
        "at 0x1000000000 0x11110001",
        "at 0x1ffffffffc 0x11110001",
        &format!("rom {}", rom.trim_end()),
    ] {
        guest.stdout_contains(line)?;
    }
    Ok(())
}

fn moved(ctx: &Ctx, backend: &str) -> TestResult {
    extra::bind(ctx, &[EDU, MEMORY])?;
    let script = r#"
        edu=0000:00:01.0; memory=0000:00:02.0; nvme=0000:00:03.0
        for d in $edu $memory $nvme; do echo 1 > /sys/bus/pci/devices/$d/enable; done
        setconf $edu 4 6
        b=$(bar $edu 0); at=$(bar $memory 2); ram=0x4000000; value=0x1000
        dma() { # from, to, bytes, command
            devmem $((b + 0x80)) 64 $1; devmem $((b + 0x88)) 64 $2
            devmem $((b + 0x90)) 64 $3; devmem $((b + 0x98)) 64 $4
            while [ $(($(mem $b 0x98) & 1)) != 0 ]; do :; done
        }
        # A new value goes from the CPU to RAM, through the device to its peer at $2, and from there back to RAM.
        try() {
            value=$((value + 1)); mem $ram 0 $value; mem $ram 0x100 0
            dma $ram 0x40000 4 1; dma 0x40000 $2 4 3
            dma $2 0x40010 4 1; dma 0x40010 $((ram + 0x100)) 4 3
            echo "$1: sent $((value)), the CPU sees $(($(mem $2 0))), the peer gave $(($(mem $ram 0x100)))"
        }
        place() { setconf $memory 0x18 $(($1 & 0xffffffff)); setconf $memory 0x1c $(($1 >> 32)); }

        try 'where firmware put it' $at
        setconf $memory 4 0; place $((at + 0x1000000)); setconf $memory 4 2
        echo "moved along: $(($(mem $at 0x1000000)))"
        try 'moved while disabled' $((at + 0x1000000))
        place $((at + 0x2000000))
        try 'moved while enabled' $((at + 0x2000000))
        try 'at its old place' $((at + 0x1000000))
        echo "untouched: $(($(mem $at 0x2000000)))"
        echo "RAM before: $(mem $ram 0)"; place $ram; echo "RAM behind: $(mem $ram 0)"
        place $at
        try 'back again' $at

        # What the peer reads in the drive's first register, and the CPU.
        capabilities() {
            dma $(bar $nvme 0) 0x40000 4 1; dma 0x40000 $((ram + 0x100)) 4 3
            [ "$(mem $ram 0x100)" = "$(mem $(bar $nvme 0) 0)" ] && echo "$1: alike" || echo "$1: $(mem $ram 0x100)"
        }
        capabilities 'the drive as it was'
        cat /sys/bus/pci/devices/$nvme/reset_method; echo 1 > /sys/bus/pci/devices/$nvme/reset
        capabilities 'the drive when the guest has reset it'"#;
    let devices = [EDU, MEMORY, NVME].map(|device| format!("{device},backend={backend}"));
    let devices = devices.each_ref().map(String::as_str);
    // QEMU's NVMe takes an interrupt only if MSI-X was on when its queue was made, which a driver's own reset undoes.
    let cmdline = "memmap=1M$0x4000000 initcall_blacklist=nvme_init";
    let guest = extra::guest(ctx, &devices, cmdline, script)?;
    guest.stderr_contains(&format!("devices opened backend={backend} "))?;
    for line in [
        "where firmware put it: sent 4097, the CPU sees 4097, the peer gave 4097",
        "moved along: 4097",
        "moved while disabled: sent 4098, the CPU sees 4098, the peer gave 4098",
        "moved while enabled: sent 4099, the CPU sees 4099, the peer gave 4099",
        "at its old place: sent 4100, the CPU sees 4294967295, the peer gave ",
        "untouched: 4099",
        "RAM before: 0x00001004",
        "RAM behind: 0x00001004",
        "back again: sent 4101, the CPU sees 4101, the peer gave 4101",
        "the drive as it was: alike",
        "flr",
        "the drive when the guest has reset it: alike",
    ] {
        guest.stdout_contains(line)?;
    }
    Ok(())
}

/// `VFIO_DEVICE_FEATURE`: how BARs are had as dma-bufs (linux/vfio.h). Kernels before 6.19 have none.
const DEVICE_FEATURE: &str = "0x3b75";

fn no_peers(ctx: &Ctx) -> TestResult {
    extra::bind(ctx, &[EDU, MEMORY])?;
    let meddle = ctx.program("meddle")?;
    let run = |guest: &str, backend: &str| {
        let command = format!(
            "{meddle} deny ioctl {DEVICE_FEATURE} vmm -v run {guest} --memory 128M --vfio {EDU}{backend} --vfio {MEMORY}{backend}"
        );
        ctx.run(&command).deadline(240).expect_success()
    };
    let lost = "other passed-through devices cannot reach this BAR by DMA (no peer-to-peer); all else works";
    let complete = "summary complete: 3 PCI devices, 0 disks read, 0 problems";
    run(QUIET, ",backend=iommufd")?.stdout_contains(complete)?.stderr_contains(lost)?;
    // Without a word about it, vmm takes what can do more.
    let chosen = run(ctx.tiny(&POWERS_OFF)?, "")?;
    chosen.stderr_contains("devices opened backend=container")?;
    ensure!(!chosen.stderr.contains(lost), "{}", chosen.stderr);
    Ok(())
}
