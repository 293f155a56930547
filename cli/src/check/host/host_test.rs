//! Hosts in which something is broken, and what is said about each: `hosts.txt`.

use memory::bytes::{GIB, MIB};
use memory::pin::Probe;
use vmm::hypervisor::UnusableKvm;

use super::facts::{Facts, Kvm};
use super::judge::judge;
use crate::check::findings::{Finding, Findings, Level};
use crate::check::fixture::Scripted;

const NVME: &str = "0000:01:00.0";
const NIC: &str = "0000:02:00.0";
const INTERRUPTS: &str = " 4:  12  IO-APIC   4-edge  ttyS0\n";
const HUGE: &str = "sys/kernel/mm/transparent_hugepage/shmem_enabled";

/// A host on which nothing is amiss, with a device that is ready and one of its own.
fn host() -> Scripted {
    Scripted::new()
        .device(NVME, Some("vfio-pci"), Some(12))
        .device(NIC, Some("e1000e"), Some(13))
        .file("sys/class/iommu/dmar0/intel-iommu/cap", "d2008c22260206\n")
        .file("sys/firmware/acpi/tables/DMAR", "")
        .file("proc/interrupts", " 4:  12  IR-IO-APIC   4-edge  ttyS0\n")
        .file("proc/sys/kernel/io_uring_disabled", "0\n")
        .file("proc/sys/kernel/seccomp/actions_avail", "kill_process errno allow\n")
        .file(HUGE, "always within_size [advise] never deny force\n")
        .file("dev/net/tun", "")
        .file("dev/vhost-net", "")
}

/// The same with the IOMMU off.
fn without_iommu() -> Scripted {
    let host = host().without("sys/kernel/iommu_groups").without("sys/class");
    [NVME, NIC].iter().fold(host, |host, device| host.without(&format!("sys/bus/pci/devices/{device}")))
}

/// What is found there beyond what is files.
fn facts(host: &Scripted) -> Facts {
    let pinning = Probe {
        kernel: "6.12.9-amd64".to_owned(),
        memory: 32 * GIB,
        pinnable: Some(28 * GIB),
        sees_frames: true,
        ..Probe::default()
    };
    let kvm = Ok(Kvm { vcpus: 1024, address_bits: 46 });
    Facts { kvm, pinning, makes_taps: true, ..Facts::below(host.root()) }
}

/// What is said about a host.
fn said(host: &Scripted, with: impl FnOnce(&mut Facts)) -> String {
    let mut facts = facts(host);
    with(&mut facts);
    let mut findings = Findings::new(true);
    let found: Vec<Finding> = judge(&facts);
    let text: String = found.iter().map(Finding::line).collect();
    found.into_iter().for_each(|finding| findings.add(finding));
    text.replace(&host.root().display().to_string(), "") + &findings.sum() + "\n"
}

fn nothing(_: &mut Facts) {}

#[test]
fn each_broken_host_has_its_remedy() {
    let as_is = |host: Scripted| said(&host, nothing);
    let cases = [
        ("no /dev/kvm", said(&host(), |facts| facts.kvm = Err(UnusableKvm::Absent))),
        (
            "no rights",
            said(
                &host()
                    .forbid("dev/vfio/vfio")
                    .forbid("dev/iommu")
                    .forbid("dev/vfio/12")
                    .forbid("dev/net/tun"),
                |facts| {
                    facts.kvm = Err(UnusableKvm::Forbidden);
                    facts.makes_taps = false;
                },
            ),
        ),
        ("the IOMMU is off, and the firmware has one", as_is(without_iommu())),
        ("the IOMMU is off in the firmware", as_is(without_iommu().without("sys/firmware"))),
        ("interrupts are not remapped", as_is(host().file("proc/interrupts", INTERRUPTS))),
        (
            "interrupts are not remapped, which is allowed",
            as_is(
                host()
                    .file("proc/interrupts", INTERRUPTS)
                    .file("sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts", "Y\n"),
            ),
        ),
        (
            "no vfio module",
            as_is(
                host()
                    .without("sys/bus/pci/drivers/vfio-pci")
                    .without("dev/vfio")
                    .without("dev/iommu")
                    .without(&format!("sys/bus/pci/devices/{NVME}")),
            ),
        ),
        (
            "no node for the device",
            as_is(host().without("dev/vfio/12").without("dev/vfio/devices").without("dev/iommu")),
        ),
        ("no device is bound", as_is(host().without(&format!("sys/bus/pci/devices/{NVME}")))),
        ("another in its group", as_is(host().device("0000:01:00.1", Some("snd_hda_intel"), Some(12)))),
        ("memlock is low", said(&host(), |facts| facts.pinning.memlock = Some(8 * MIB))),
        (
            "CMA is large",
            said(&host(), |facts| {
                facts.pinning.cma_total = 8 * GIB;
                facts.pinning.movable = 4 * GIB;
                facts.pinning.pinnable = Some(18 * GIB + 300 * MIB);
                facts.pinning.sees_frames = false;
            }),
        ),
        ("no huge pages", as_is(host().file(HUGE, "always within_size advise [never] deny force\n"))),
        (
            "io_uring is forbidden",
            said(&host().file("proc/sys/kernel/io_uring_disabled", "2\n"), |facts| {
                facts.pinning.io_uring =
                    Some("io_uring_setup: Operation not permitted (os error 1)".to_owned());
            }),
        ),
        (
            "a seccomp filter of a container",
            said(
                &host().file("proc/self/status", "Name:\tvmm\nSeccomp:\t2\nSeccomp_filters:\t1\n"),
                |facts| {
                    facts.pinning.io_uring =
                        Some("io_uring_setup: Operation not permitted (os error 1)".to_owned());
                },
            ),
        ),
        (
            "an old kernel, without any of it",
            said(
                &Scripted::new()
                    .without("dev")
                    .without("sys/kernel/iommu_groups")
                    .without("sys/bus/pci/drivers"),
                |facts| {
                    facts.pinning.kernel = "5.10.0-32".to_owned();
                    facts.pinning.pinnable = None;
                    facts.pinning.io_uring = Some("no huge buffers".to_owned());
                    facts.pinning.udmabuf = Some("no node".to_owned());
                },
            ),
        ),
    ];
    let text: String = cases.iter().map(|(name, text)| format!("== {name}\n{text}\n")).collect();
    assert_eq!(text, include_str!("hosts.txt"));
    // Whatever is amiss, it is said what to do.
    for (name, text) in &cases {
        let amiss = |line: &&str| line.starts_with("problem: ") || line.starts_with("warning: ");
        let helps = text.lines().filter(|line| line.starts_with("   help: ")).count();
        assert_eq!(text.lines().filter(amiss).count(), helps, "{name}: {text}");
        assert!(helps > 0, "{name}");
    }
}

#[test]
fn nothing_is_amiss_with_a_whole_host() {
    let text = said(&host(), nothing);
    assert!(text.lines().all(|line| line.starts_with("ok: ") || line == "ready"), "{text}");
    assert!(text.contains("ok: ready to be passed through: 0000:01:00.0\n"), "{text}");
}

#[test]
fn containers_serve_where_there_is_no_iommufd() {
    let text = said(&host().without("dev/vfio/devices").without("dev/iommu"), nothing);
    assert!(
        text.contains("ok: VFIO can be used, through containers\n") && text.ends_with("\nready\n"),
        "{text}"
    );
}

#[test]
fn this_host_is_judged() {
    let found = judge(&Facts::below(std::path::Path::new("/")));
    // Nothing is known of its KVM here.
    assert!(found.iter().any(|finding| matches!(finding.level, Level::Problem(_))));
}
