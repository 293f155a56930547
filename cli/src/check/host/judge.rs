//! What facts about a host mean for a guest with passed-through devices, and what mends what is amiss. No system call is
//! made here.

use memory::bytes::{Bytes, MIB};
use memory::pin::Probe;
use vfio::survey::{Candidate, Iommu, Survey};
use vfio::{HostDevice, PreflightError};
use vmm::Class;

use super::facts::{Facts, Node};
use crate::check::findings::{Finding, Level};

const HOST: Level = Level::Problem(Class::Host);
const MEMORY: Level = Level::Problem(Class::Memory);
/// The first kernel that keeps what is pinned out of CMA and ZONE_MOVABLE.
const OLDEST: (u32, u32) = (5, 13);
/// What a guest has that nobody gave more, in bytes.
const SMALL_GUEST: u64 = 512 * MIB;
/// What cannot be pinned is worth a word from this share of all memory on, in percent.
const LARGE_SHARE: u64 = 25;
/// Devices that are named; of more it is said how many.
const NAMED: usize = 4;

/// Everything, in the order in which it is to be mended.
pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let mut found = vec![kernel(&facts.pinning), kvm(facts)];
    match &facts.passthrough {
        Ok(survey) => {
            let ways = ways(survey);
            found.extend(iommu(survey));
            found.extend(vfio(survey, &ways));
            found.extend(devices(survey, !ways.is_empty()));
        }
        Err(error) => {
            let text = "the host's PCI devices cannot be listed";
            let remedy = "mount the kernel's own sysfs at /sys";
            found.push(Finding::amiss(HOST, "devices", text, remedy).because(&error.to_string()));
        }
    }
    found.extend(memory(&facts.pinning));
    found.push(huge_pages(facts.huge_pages.as_deref()));
    found.push(seccomp(facts));
    found.push(io_uring(facts));
    found.extend(networks(facts));
    found
}

fn kernel(probe: &Probe) -> Finding {
    let text = format!("Linux {}", probe.kernel);
    match version(&probe.kernel) {
        Some(version) if version < OLDEST => Finding::amiss(
            HOST,
            "kernel",
            format!("{text} lets memory in CMA areas be pinned where it is"),
            "boot Linux 5.13 or later",
        ),
        _ => Finding::ok("kernel", text),
    }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn kvm(facts: &Facts) -> Finding {
    match &facts.kvm {
        Ok(kvm) => Finding::ok(
            "kvm",
            format!("KVM can be used: up to {} vCPUs, {}-bit addresses", kvm.vcpus, kvm.address_bits),
        ),
        Err(error) => Finding::of(HOST, "kvm", error),
    }
}

fn iommu(survey: &Survey) -> Vec<Finding> {
    if survey.groups == 0 {
        let remedy = match survey.table {
            Some("DMAR") => {
                "the firmware has it on; boot the host with intel_iommu=on: on Debian add it to GRUB_CMDLINE_LINUX in \
                 /etc/default/grub, then `update-grub` and reboot"
            }
            Some(_) => "the firmware has it on; boot the host without amd_iommu=off and iommu=off",
            None => {
                "turn VT-d or AMD-Vi on in the firmware, and boot the host with intel_iommu=on (Intel) or without \
                 amd_iommu=off (AMD)"
            }
        };
        return vec![Finding::amiss(
            HOST,
            "iommu",
            "the IOMMU is off: no device can be passed through",
            remedy,
        )];
    }
    vec![Finding::ok("iommu", units(survey)), remapping(survey)]
}

/// `the IOMMU is on: Intel VT-d, 39-bit addresses, 14 groups`
fn units(survey: &Survey) -> String {
    let kind = survey.iommus.first().map_or("of a kind that is not known", Iommu::kind);
    let bits = survey.iommus.iter().filter_map(|iommu| iommu.address_bits).min();
    let bits = bits.map(|bits| format!(", {bits}-bit addresses")).unwrap_or_default();
    format!("the IOMMU is on: {kind}{bits}, {} groups", survey.groups)
}

fn remapping(survey: &Survey) -> Finding {
    if survey.remaps_interrupts {
        return Finding::ok("iommu", "the IOMMU remaps interrupts");
    }
    if survey.allows_unsafe_interrupts {
        return Finding::amiss(
            Level::Warning,
            "iommu",
            "the IOMMU does not remap interrupts, and VFIO is told to do without: a guest with a device can raise any \
             interrupt of the host",
            "turn interrupt remapping on in the firmware, and boot the host without intremap=off; until then trust every guest",
        );
    }
    Finding::amiss(
        HOST,
        "iommu",
        "the IOMMU does not remap interrupts: VFIO refuses devices, whose guests could raise any interrupt of the host",
        "turn interrupt remapping on in the firmware, and boot the host without intremap=off; only if every guest is trusted:\n  \
         echo 1 > /sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts\n  \
         echo 1 > /sys/module/iommufd/parameters/allow_unsafe_interrupts",
    )
}

/// The kernel's interfaces to devices that can be used.
fn ways(survey: &Survey) -> Vec<&'static str> {
    // Nodes of devices come with the first that is bound.
    let bound = survey.devices.iter().any(|it| it.device.is_bound_to_vfio());
    let iommufd = survey.iommufd.is_empty() && (survey.has_cdevs || !bound);
    let ways = [(iommufd, "iommufd"), (survey.container.is_empty(), "containers")];
    ways.into_iter().filter_map(|(open, name)| open.then_some(name)).collect()
}

fn vfio(survey: &Survey, ways: &[&str]) -> Vec<Finding> {
    let mut found = Vec::new();
    if !survey.has_vfio_pci {
        found.push(Finding::amiss(HOST, "vfio", "the vfio-pci driver is not loaded", "modprobe vfio-pci"));
    }
    match ways {
        [] => {
            // Whoever has /dev/iommu, and may not open it, wants it; others need not hear of it.
            let told = |error: &&PreflightError| !matches!(error, PreflightError::NoIommufd(_));
            let errors = survey.container.iter().chain(survey.iommufd.iter().filter(told));
            let missing = |error: &PreflightError| matches!(error, PreflightError::NoVfio(_));
            found.extend(
                errors
                    .filter(|error| survey.has_vfio_pci || !missing(error))
                    .map(|error| Finding::of(HOST, "vfio", error)),
            );
        }
        ways => found.push(Finding::ok("vfio", format!("VFIO can be used, through {}", ways.join(" and ")))),
    }
    found
}

fn devices(survey: &Survey, open: bool) -> Vec<Finding> {
    let mut found = Vec::new();
    let (bound, others): (Vec<&Candidate>, Vec<&Candidate>) =
        survey.devices.iter().partition(|it| it.device.is_bound_to_vfio());
    let ready: Vec<&HostDevice> =
        bound.iter().filter(|it| it.obstacles.is_empty()).map(|it| &it.device).collect();
    let bindable: Vec<&HostDevice> =
        others.iter().filter(|it| it.could_be_bound()).map(|it| &it.device).collect();
    let mut used = false;
    for candidate in &bound {
        for obstacle in &candidate.obstacles {
            let busy = matches!(obstacle, PreflightError::Busy { .. });
            used |= busy;
            found.push(if busy {
                Finding::ok("devices", format!("{}: {obstacle}", candidate.device.address))
            } else {
                Finding::of(HOST, "devices", obstacle)
            });
        }
    }
    match (ready.as_slice(), bindable.first()) {
        ([], Some(first)) if !used => found.push(Finding::amiss(
            Level::Warning,
            "devices",
            format!("no device is ready to be passed through, but could be: {}", named(&bindable)),
            format!("vmm bind {}", first.address),
        )),
        ([], None) if bound.is_empty() && survey.groups > 0 => found.push(Finding::amiss(
            Level::Warning,
            "devices",
            "no device could be passed through",
            "`vmm devices` tells of each what is in its way",
        )),
        ([], _) => {}
        (ready, _) => {
            let what = if open { "ready to be passed through" } else { "bound to VFIO" };
            found.push(Finding::ok("devices", format!("{what}: {}", named(ready))));
        }
    }
    found
}

/// `0000:01:00.0, 0000:02:00.0 and 3 more`
fn named(devices: &[&HostDevice]) -> String {
    let names = devices.iter().take(NAMED).map(|device| device.address.to_string());
    let names = names.collect::<Vec<_>>().join(", ");
    match devices.len().saturating_sub(NAMED) {
        0 => names,
        more => format!("{names} and {more} more"),
    }
}

fn memory(probe: &Probe) -> Vec<Finding> {
    let mut found = vec![memlock(probe)];
    let Some(pinnable) = probe.pinnable else {
        found.push(Finding::amiss(
            MEMORY,
            "memory",
            "cannot read the host's memory figures",
            "/proc must be mounted and readable",
        ));
        return found;
    };
    found.push(Finding::ok(
        "memory",
        format!("{:.1} of the host's {:.1} can be pinned now", Bytes(pinnable), Bytes(probe.memory)),
    ));
    let unpinnable = probe.cma_total.saturating_add(probe.movable);
    if unpinnable == 0 {
        found.push(Finding::ok("memory", "there is neither CMA nor ZONE_MOVABLE"));
        return found;
    }
    let percent = unpinnable.saturating_mul(100) / probe.memory.max(1);
    let text = format!(
        "CMA {:.1} and ZONE_MOVABLE {:.1} are {percent} % of memory: guests with passed-through devices get none of it",
        Bytes(probe.cma_total),
        Bytes(probe.movable)
    );
    found.push(if percent >= LARGE_SHARE {
        let remedy = "for larger guests shrink them, on the kernel's command line (see /proc/cmdline): cma= and hugetlb_cma=, or \
                      movablecore=, kernelcore= and movable_node";
        Finding::amiss(Level::Warning, "memory", text, remedy)
    } else {
        Finding::ok("memory", text)
    });
    let reason = match &probe.cma_unknown {
        Some(reason) => Some(reason.as_str()),
        None if !probe.sees_frames => Some("page frame numbers cannot be read without CAP_SYS_ADMIN"),
        None => None,
    };
    found.extend(reason.map(|reason| {
        let text = "where pinned pages lie can only be estimated; they are kept out of CMA all the same";
        Finding::amiss(Level::Warning, "memory", text, "run vmm as root to have them counted").because(reason)
    }));
    found
}

fn memlock(probe: &Probe) -> Finding {
    match probe.memlock {
        None => Finding::ok("memlock", "memlock is unlimited"),
        Some(limit) if limit < SMALL_GUEST => Finding::amiss(
            MEMORY,
            "memlock",
            format!(
                "memlock is {:.1}: a guest with a passed-through device has all of its memory locked",
                Bytes(limit)
            ),
            "raise it for whoever runs vmm, as in /etc/security/limits.d/vmm.conf, and log in again:\n  \
             echo \"$USER - memlock unlimited\" > /etc/security/limits.d/vmm.conf\n\
             in a systemd unit LimitMEMLOCK=infinity; or grant CAP_IPC_LOCK",
        ),
        Some(limit) => Finding::ok(
            "memlock",
            format!(
                "memlock is {:.1}, for all guests of this user with passed-through devices together",
                Bytes(limit)
            ),
        ),
    }
}

fn huge_pages(setting: Option<&str>) -> Finding {
    match setting {
        None => Finding::amiss(
            Level::Warning,
            "huge pages",
            "the kernel has no transparent huge pages: guests run slower and take longer to pin",
            "boot a kernel with CONFIG_TRANSPARENT_HUGEPAGE",
        ),
        Some(setting @ ("never" | "deny")) => Finding::amiss(
            Level::Warning,
            "huge pages",
            format!(
                "guest memory has no huge pages (shmem_enabled is {setting}): guests run slower and take longer to pin"
            ),
            "echo advise > /sys/kernel/mm/transparent_hugepage/shmem_enabled",
        ),
        Some(setting) => {
            Finding::ok("huge pages", format!("guest memory has huge pages (shmem_enabled is {setting})"))
        }
    }
}

fn seccomp(facts: &Facts) -> Finding {
    match (facts.seccomp, facts.filtered) {
        (true, false) => Finding::ok("seccomp", "seccomp filters can be used"),
        (true, true) => Finding::ok("seccomp", "seccomp filters can be used, and one is in force here"),
        (false, _) => Finding::amiss(
            Level::Warning,
            "seccomp",
            "the kernel has no seccomp filters: no process of its own holds trial pins, which could be killed if one gets stuck",
            "boot a kernel with CONFIG_SECCOMP_FILTER",
        ),
    }
}

fn io_uring(facts: &Facts) -> Finding {
    let Some(reason) = &facts.pinning.io_uring else {
        return Finding::ok("io_uring", "io_uring can be used: guest memory is trial-pinned through it");
    };
    let instead = if facts.pinning.udmabuf.is_none() {
        "trial-pinned through udmabuf"
    } else {
        "pinned by the DMA map itself, with less room for retrying"
    };
    let (text, remedy) = match facts.io_uring_disabled.as_deref() {
        Some(setting @ ("1" | "2")) => (
            format!("io_uring is forbidden (kernel.io_uring_disabled is {setting})"),
            "sysctl -w kernel.io_uring_disabled=0, and for good a file in /etc/sysctl.d; or, where it is 1, put whoever runs vmm \
             into the group kernel.io_uring_group",
        ),
        _ if facts.filtered => (
            "io_uring holds no trial pins, and a seccomp filter is in force here that may forbid it"
                .to_owned(),
            "allow io_uring_setup, io_uring_enter and io_uring_register: in the seccomp profile of the container, or \
             with SystemCallFilter=@aio in the unit of the service",
        ),
        _ => ("io_uring holds no trial pins".to_owned(), "use Linux 5.19 or later, with CONFIG_IO_URING"),
    };
    let text = format!("{text}: guest memory is {instead}, and disks are slower");
    Finding::amiss(Level::Warning, "io_uring", text, remedy).because(reason)
}

fn networks(facts: &Facts) -> Vec<Finding> {
    let tun = match facts.tun {
        Node::Usable if facts.makes_taps => Finding::ok("network", "taps can be used, and made"),
        Node::Usable => Finding::ok(
            "network",
            "taps can be used that were made for this user (`ip tuntap add NAME mode tap user $USER`, as root)",
        ),
        Node::Forbidden => Finding::amiss(
            Level::Warning,
            "network",
            "no permission to open /dev/net/tun: guests have no network cards",
            "chmod 666 /dev/net/tun: a tap is only for the user that it was made for",
        ),
        Node::Absent => Finding::amiss(
            Level::Warning,
            "network",
            "there is no /dev/net/tun: guests have no network cards",
            "modprobe tun",
        ),
    };
    let slower = "vmm serves network cards itself, which costs more CPU time";
    let vhost = match facts.vhost_net {
        Node::Usable => Finding::ok("network", "vhost-net serves network cards"),
        Node::Forbidden => Finding::amiss(
            Level::Warning,
            "network",
            format!("no permission to open /dev/vhost-net: {slower}"),
            "usermod -aG kvm $USER, if it belongs to that group (`ls -l /dev/vhost-net`), and log in again",
        ),
        Node::Absent => Finding::amiss(
            Level::Warning,
            "network",
            format!("there is no /dev/vhost-net: {slower}"),
            "modprobe vhost_net",
        ),
    };
    vec![tun, vhost]
}
