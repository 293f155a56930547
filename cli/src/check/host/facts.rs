//! What is known of the host, before it is judged.

use std::path::Path;

use memory::pin::{HelperCommand, Probe};
use rustix::fs::{Access, AtFlags, CWD};
use rustix::thread::{CapabilitySet, capabilities};
use vfio::Host;
use vfio::survey::Survey;
use vfio::sysfs::DiscoverError;
use vmm::hypervisor::{Hypervisor, UnusableKvm};

use crate::pin_helper;

/// Longest file of those that are read here, in bytes.
const LONGEST: u64 = 4096;

/// A host.
pub(super) struct Facts {
    pub(super) kvm: Result<Kvm, UnusableKvm>,
    pub(super) passthrough: Result<Survey, DiscoverError>,
    /// Memory, and how it can be pinned.
    pub(super) pinning: Probe,
    /// What `/sys/kernel/mm/transparent_hugepage/shmem_enabled` is set to, if there are huge pages.
    pub(super) huge_pages: Option<String>,
    /// `kernel.io_uring_disabled`, if there is such a thing.
    pub(super) io_uring_disabled: Option<String>,
    /// Whether the kernel has seccomp filters.
    pub(super) seccomp: bool,
    /// Whether one is in force here.
    pub(super) filtered: bool,
    pub(super) tun: Node,
    pub(super) vhost_net: Node,
    /// Whether taps can be made (CAP_NET_ADMIN).
    pub(super) makes_taps: bool,
}

/// What KVM offers.
pub(super) struct Kvm {
    pub(super) vcpus: u32,
    pub(super) address_bits: u8,
}

/// A device node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Usable,
    Forbidden,
    Absent,
}

impl Facts {
    /// Of this host, for whoever runs this.
    pub(super) fn read() -> Self {
        let kvm = Hypervisor::open().map(|kvm| Kvm { vcpus: kvm.max_vcpus(), address_bits: kvm.phys_bits() });
        let effective = capabilities(None).map(|sets| sets.effective).unwrap_or(CapabilitySet::empty());
        Self {
            kvm,
            passthrough: Host::default().survey(),
            pinning: Probe::of_host(Some(&HelperCommand::this_executable(pin_helper::WORD))),
            makes_taps: effective.contains(CapabilitySet::NET_ADMIN),
            ..Self::below(Path::new("/"))
        }
    }

    /// Those that are files, of a host whose files are found below `root`; of the rest nothing is known.
    pub(super) fn below(root: &Path) -> Self {
        let node = |path: &str| Node::at(&root.join(path));
        let huge_pages = read(&root.join("sys/kernel/mm/transparent_hugepage/shmem_enabled"));
        Self {
            kvm: Err(UnusableKvm::Absent),
            passthrough: Host::at(root).survey(),
            pinning: Probe::default(),
            huge_pages: huge_pages.as_deref().and_then(chosen).map(str::to_owned),
            io_uring_disabled: read(&root.join("proc/sys/kernel/io_uring_disabled")),
            seccomp: root.join("proc/sys/kernel/seccomp/actions_avail").exists(),
            filtered: read(&root.join("proc/self/status")).is_some_and(|status| is_filtered(&status)),
            tun: node("dev/net/tun"),
            vhost_net: node("dev/vhost-net"),
            makes_taps: false,
        }
    }
}

impl Node {
    /// Looks without opening.
    fn at(path: &Path) -> Self {
        match rustix::fs::accessat(CWD, path, Access::READ_OK | Access::WRITE_OK, AtFlags::EACCESS) {
            Ok(()) => Self::Usable,
            Err(_) if path.exists() => Self::Forbidden,
            Err(_) => Self::Absent,
        }
    }
}

fn read(path: &Path) -> Option<String> {
    let mut text = String::new();
    let file = std::fs::File::open(path).ok()?;
    std::io::Read::read_to_string(&mut std::io::Read::take(file, LONGEST), &mut text).ok()?;
    Some(text.trim().to_owned())
}

/// `Seccomp:\t2` (proc(5)).
fn is_filtered(status: &str) -> bool {
    status.lines().find_map(|line| line.strip_prefix("Seccomp:")).is_some_and(|mode| mode.trim() == "2")
}

/// `always within_size [advise] never deny force`
fn chosen(text: &str) -> Option<&str> {
    text.split_once('[')?.1.split_once(']').map(|(chosen, _)| chosen)
}
