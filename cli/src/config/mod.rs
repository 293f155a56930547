//! A machine as an operator describes it: every flag that `vmm run` and `vmm check` share, and every key of a file.
//!
//! Each option is a field, documented once; help, man pages and the JSON schema are made from it, and flags ([`args`]). A flag
//! `--pin-deadline` is the key `pin-deadline`. A group of options has a type of its own in a file beside this one
//! ([`vfio`]), in the [grammar](crate::grammar) of all.

pub(crate) mod args;
mod console;
mod disk;
pub(crate) mod effective;
mod fs;
mod lifecycle;
mod mem;
mod net;
mod numa;
mod options;
mod pinning;
mod pmem;
mod rate;
pub(crate) mod sandbox;
mod vfio;
mod virtio;
mod vsock;

use std::path::{Path, PathBuf};

use memory::Backing;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vmm::Placement;

use crate::events::Events;
use crate::grammar::schema;
use crate::grammar::types::{Cpus, Duration, Size};
use console::ConsolePort;
use disk::Disk;
use fs::SharedDirectory;
pub(crate) use lifecycle::{OnExit, OnPanic, OnReboot, Watchdog};
pub(crate) use mem::HotplugMemory;
pub(crate) use net::NetCard;
pub(crate) use numa::Numa;
pub(crate) use pinning::{PinRootHelp, PinVerify, Prefault};
use pmem::Pmem;
pub(crate) use vfio::{Iommufd, VfioDevice};
pub(crate) use virtio::Balloon;
pub(crate) use vsock::Vsock;

/// A machine.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct Config {
    /// Kernel to boot: a bzImage, or an ELF vmlinux with a PVH entry.
    #[schemars(extend("x-value" = "FILE"))]
    pub(crate) kernel: Option<PathBuf>,
    /// Initial RAM file system; `none` for none.
    #[schemars(extend("x-value" = "FILE"))]
    pub(crate) initrd: Option<PathBuf>,
    /// The kernel's command line.
    pub(crate) cmdline: String,
    /// RAM, in bytes or with a suffix K, M, G or T (powers of 1024).
    pub(crate) memory: Size,
    /// Make RAM of huge pages of this size, 2M or 1G, from the pool that the host has set aside (hugetlb).
    pub(crate) hugepages: Option<Size>,
    /// Number of vCPUs.
    pub(crate) cpus: u32,
    /// Tell the guest that it has NUMA nodes: this one's share of memory and vCPUs. May be repeated; together they are all that it has.
    pub(crate) numa: Vec<Numa>,
    /// Run each vCPU on a CPU of the host of its own, in this order: `2-5,8` has vCPU 0 run on 2.
    pub(crate) cpu_affinity: Option<Cpus>,
    /// Give vCPUs this real-time priority (SCHED_FIFO), 1 to 99.
    pub(crate) cpu_realtime: Option<u8>,
    /// How long the host keeps looking at most, at the cost of CPU time, when a vCPU halts: 200us; 0 is not at all. KVM's own setting
    /// (kvm.halt_poll_ns) if nothing is said.
    pub(crate) halt_poll: Option<Duration>,
    /// Run all threads but those of vCPUs on these CPUs of the host, once the guest starts.
    pub(crate) housekeeping_cpus: Option<Cpus>,
    /// Pass a host PCI device through, named by its address alone. May be repeated.
    pub(crate) vfio: Vec<VfioDevice>,
    /// Use a /dev/iommu opened by whoever starts vmm.
    #[schemars(extend("x-value" = "fd=N"))]
    pub(crate) iommufd: Option<Iommufd>,
    /// Have so many free PCIe root ports, into which devices can be plugged while the guest runs.
    pub(crate) pcie_ports: u8,
    /// Give the guest a disk. May be repeated.
    pub(crate) disk: Vec<Disk>,
    /// Give the guest a file as persistent memory (virtio-pmem), which it may mount without a page cache of its own. May be repeated.
    pub(crate) pmem: Vec<Pmem>,
    /// Give the guest a network card on a tap of the host. May be repeated.
    pub(crate) net: Vec<NetCard>,
    /// Give the guest a directory of the host to mount, which a vhost-user daemon (virtiofsd) shares. May be repeated.
    pub(crate) fs: Vec<SharedDirectory>,
    /// Give the guest an entropy device, fed from the host's random number generator.
    pub(crate) rng: bool,
    /// Give the guest a device to tell of its panics through (pvpanic): end then, with exit code 1, or `reset` it.
    pub(crate) on_panic: Option<OnPanic>,
    /// Give the guest a watchdog (i6300esb): when it is not reloaded in time, end with exit code 1, or `reset` the guest.
    pub(crate) watchdog: Option<Watchdog>,
    /// What a reset is, whoever asks for it: the guest runs again (`reset`), or the machine ends (`stop`).
    pub(crate) on_reboot: OnReboot,
    /// What a guest's powering off is: the end (`stop`), a reset (`reset`), or the end of the machine but not of vmm, which goes on
    /// answering over --api-socket (`keep`).
    pub(crate) on_exit: OnExit,
    /// Connect the guest with the host by sockets that need no network (vsock).
    pub(crate) vsock: Option<Vsock>,
    /// Give the guest a virtio console (hvc0), or a port with a name for a program. The serial port is another one. May be repeated.
    pub(crate) console: Vec<ConsolePort>,
    /// Have room for memory that is plugged in and out while the guest runs (virtio-mem): so much at the most. `vmm ctl resize --memory`
    /// does it.
    pub(crate) hotplug_memory: Option<HotplugMemory>,
    /// Take memory from the guest, and give it back, while it runs.
    pub(crate) balloon: Option<Balloon>,
    /// Fault all memory in before the guest runs. With --vfio that is done anyway, outside CMA, as `pin` says;
    /// `populate` allocates it as other monitors do, anywhere, and then moves it out of CMA.
    pub(crate) prefault: Option<Prefault>,
    /// Look where the pinned pages lie (`census`), or do not (`off`).
    pub(crate) pin_verify: PinVerify,
    /// How much time pinning may lose to causes that pass: 500ms, 10s, 2m.
    pub(crate) pin_deadline: Duration,
    /// What root may do about memory that cannot be moved: `compact` the host's memory once if it has no free huge page,
    /// `split` huge pages. May be several, separated by commas.
    pub(crate) pin_root_help: Vec<PinRootHelp>,
    /// Write what pinning came to as JSON, success or failure.
    #[schemars(extend("x-value" = "FILE"))]
    pub(crate) report: Option<PathBuf>,
    /// Write the same as Prometheus metrics, for node_exporter's textfile collector.
    #[schemars(extend("x-value" = "FILE"))]
    pub(crate) metrics: Option<PathBuf>,
    /// Write what happens to the machine as JSON, a line for each event.
    pub(crate) events: Option<Events>,
    /// Let the machine be controlled over this socket: a path, or fd=N for a socket handed in.
    #[schemars(extend("x-value" = "PATH"))]
    pub(crate) api_socket: Option<String>,
    /// Let vmm ask of the kernel what it needs and no more (`on`), or anything (`off`); and say what else it keeps itself from.
    pub(crate) sandbox: Option<sandbox::Sandbox>,
    /// How long a guest may take to power off when a signal asked it to: 500ms, 30s, 2m; 0 stops it at once.
    pub(crate) grace: Duration,
    /// End when the guest writes a value v to port 0xf4, with exit code (v << 1) | 1.
    pub(crate) debug_exit: bool,
}

/// What the kernel unpacks into its first root file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Initrd<'a> {
    /// Our own guest, since nothing was said.
    BuiltIn,
    None,
    File(&'a Path),
}

impl Config {
    /// Where its threads run.
    pub(crate) fn placement(&self) -> Placement {
        let cpus = |cpus: &Option<Cpus>| cpus.clone().unwrap_or_default().0;
        Placement {
            vcpus: cpus(&self.cpu_affinity).into_iter().map(|cpu| vec![cpu]).collect(),
            housekeeping: cpus(&self.housekeeping_cpus),
            realtime: self.cpu_realtime,
            halt_poll: self.halt_poll.map(|Duration(time)| time),
        }
    }

    /// What RAM is made of.
    pub(crate) fn backing(&self) -> Backing {
        self.hugepages.map_or(Backing::Pages, |page| Backing::HugePages { page: page.0 })
    }

    /// What `initrd` says. A file may be called `./none`.
    pub(crate) fn initrd(&self) -> Initrd<'_> {
        match &self.initrd {
            None => Initrd::BuiltIn,
            Some(word) if word.as_os_str() == "none" => Initrd::None,
            Some(path) => Initrd::File(path),
        }
    }
}

impl Default for Config {
    /// What nobody has said.
    fn default() -> Self {
        let seconds = |seconds| Duration(std::time::Duration::from_secs(seconds));
        Self {
            kernel: None,
            initrd: None,
            cmdline: "console=ttyS0".to_owned(),
            memory: Size(512 << 20),
            hugepages: None,
            cpus: 1,
            numa: Vec::new(),
            cpu_affinity: None,
            cpu_realtime: None,
            halt_poll: None,
            housekeeping_cpus: None,
            vfio: Vec::new(),
            iommufd: None,
            pcie_ports: 0,
            disk: Vec::new(),
            pmem: Vec::new(),
            net: Vec::new(),
            fs: Vec::new(),
            rng: false,
            on_panic: None,
            watchdog: None,
            on_reboot: OnReboot::Reset,
            on_exit: OnExit::Stop,
            vsock: None,
            console: Vec::new(),
            hotplug_memory: None,
            balloon: None,
            prefault: None,
            pin_verify: PinVerify::Census,
            pin_deadline: seconds(10),
            pin_root_help: Vec::new(),
            report: None,
            metrics: None,
            events: None,
            api_socket: None,
            sandbox: None,
            grace: seconds(30),
            debug_exit: false,
        }
    }
}

/// The JSON schema of a file, as it is printed.
pub(crate) fn schema_text() -> String {
    format!("{:#}\n", schema::json::<Config>())
}

#[cfg(test)]
#[path = "config_test.rs"]
mod tests;
