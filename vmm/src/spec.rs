//! What machine is asked for.

use std::path::{Path, PathBuf};
use std::time::Duration;

use memory::Backing;
use memory::pin::PinOptions;
use miette::Diagnostic;
use sandbox::Reach;
use thiserror::Error;
use vfio::Request;

use crate::boot::InitrdPart;
use crate::machine::placement::Placement;
use crate::machine::seats::{self, SEATS};
use crate::numa::{self, NumaNode};
use crate::problem::{Class, Problems};
use crate::virtio::mem::{self, MemSpec};
use crate::virtio::plugged::{self, PluggedSpec};
use crate::virtio::{VirtioSpec, balloon, iommu};

/// Guest memory comes in pages of this many bytes.
const PAGE: u64 = 4096;

/// A machine.
#[derive(Clone, Debug)]
pub struct MachineSpec {
    /// The kernel: a bzImage, or an ELF vmlinux with a PVH entry. `None` when none was found, which is a problem
    /// already reported.
    pub kernel: Option<PathBuf>,
    /// What the kernel unpacks into its first root file system.
    pub initrd: Option<InitrdSource>,
    /// The kernel's command line.
    pub cmdline: String,
    /// RAM, in bytes.
    pub memory: u64,
    /// What it is made of.
    pub backing: Backing,
    /// Memory that can be plugged in while the guest runs, if any can be.
    pub pluggable: Option<MemSpec>,
    /// Number of vCPUs.
    pub cpus: u32,
    /// Its NUMA nodes; none if it is not to know of any.
    pub numa: Vec<NumaNode>,
    /// Where on the host its threads run.
    pub placement: Placement,
    /// Host devices to pass through.
    pub vfio: Request,
    /// Free PCIe root ports, into which devices can be plugged while the guest runs.
    pub pcie_ports: u8,
    /// Virtio devices.
    pub virtio: VirtioSpec,
    /// Virtio devices behind root ports of their own, from where they can be taken out.
    pub plugged: Vec<PluggedSpec>,
    /// What becomes of a guest that panics; it has a device to say so through. Without, nobody hears of it.
    pub on_panic: Option<OnPanic>,
    /// What becomes of a guest whose watchdog runs out; it has one then.
    pub watchdog: Option<OnExpiry>,
    /// Whether a reset ends the machine. One after a panic is `on_panic`'s.
    pub stop_on_reset: bool,
    /// What becomes of the process when the guest powers off.
    pub on_exit: OnExit,
    /// How memory is pinned.
    pub pin: PinOptions,
    /// Whether memory is faulted in before the guest runs, though no device needs it.
    pub prefault: bool,
    /// Whether a write to port 0xf4 ends the machine, as test guests want it.
    pub debug_exit: bool,
    /// Where the guest's serial console goes.
    pub serial: Serial,
    /// Sent to the guest when its console's input ends.
    pub end_of_input: Option<u8>,
    /// The files that are still reached by path once all is open, by the main thread and those that it starts; without, whatever
    /// the process may.
    pub settled: Option<Reach>,
    /// How long a guest that was asked to power off may take before it is stopped; zero not to ask it.
    pub grace: Duration,
}

/// What becomes of a guest that panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnPanic {
    /// The machine ends: the guest has failed.
    Stop,
    /// It is reset, and runs again.
    Reset,
}

/// What becomes of a guest whose watchdog runs out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExpiry {
    /// The machine ends: the guest has failed.
    Stop,
    /// It is reset, and runs again.
    Reset,
}

/// What becomes of a machine whose guest powers off. One that a signal asked to is stopped whatever it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExit {
    /// The process ends.
    Stop,
    /// The guest is reset, and runs again.
    Reset,
    /// The machine gives back what it had; the process answers requests, and can boot it again.
    Keep,
}

/// Where the initrd comes from.
#[derive(Clone, Debug)]
pub enum InitrdSource {
    /// A file.
    File(PathBuf),
    /// Made by us.
    Made(Vec<InitrdPart>),
}

/// Where the guest's serial console goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Serial {
    /// There is no serial port.
    Off,
    /// Nowhere.
    Null,
    /// To standard input and output.
    Tty,
    /// To a new pseudo-terminal. What the guest prints while nobody reads there is lost.
    Pty,
    /// Output to a file.
    File(PathBuf),
}

impl Serial {
    /// What the API calls it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Off => "Off",
            Self::Null => "Null",
            Self::Tty => "Tty",
            Self::Pty => "Pty",
            Self::File(_) => "File",
        }
    }

    /// The file, if it goes to one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            _ => None,
        }
    }
}

/// A machine that makes no sense on any host.
#[derive(Debug, Error, Diagnostic)]
pub enum SpecError {
    /// No processor.
    #[error("--cpus 0: a machine needs a processor")]
    #[diagnostic(help("give --cpus 1 or more"))]
    NoCpus,
    /// No memory.
    #[error("--memory 0: a machine needs memory")]
    #[diagnostic(help("give --memory 512M, for example"))]
    NoMemory,
    /// Not whole pages.
    #[error("--memory {0} is not a multiple of {PAGE} bytes")]
    #[diagnostic(help("give whole MiB or GiB, as in --memory 512M or --memory 4G"))]
    Unaligned(u64),
    /// More vCPUs than KVM has.
    #[error("--cpus {asked}: KVM on this host allows {most}")]
    #[diagnostic(help("give --cpus {most} or fewer"))]
    TooManyCpus {
        /// Asked for.
        asked: u32,
        /// Allowed.
        most: u32,
    },
    /// More than bus 0 has room for.
    #[error(
        "{devices} passed-through devices, {own} emulated ones and --pcie-ports {ports} do not fit: PCI bus 0 has room for \
         {SEATS} in all"
    )]
    #[diagnostic(help("give the machine fewer devices, or a lower --pcie-ports"))]
    NoSeats {
        /// Devices to pass through, as the guest sees them.
        devices: usize,
        /// Devices of the machine's own: virtio devices, pvpanic and the watchdog.
        own: usize,
        /// Root ports.
        ports: u8,
    },
}

impl MachineSpec {
    /// How much memory can be plugged in, in bytes.
    pub(crate) fn room(&self) -> u64 {
        self.pluggable.map_or(0, |pluggable| pluggable.size)
    }

    /// Everything that is wrong with it whatever the host. Returns whether it has memory that can be laid out.
    pub fn validate(&self, problems: &mut Problems) -> bool {
        if self.cpus == 0 {
            problems.add(Class::Usage, SpecError::NoCpus);
        }
        let devices = seats::devices(&self.vfio.addresses()).len();
        let iommu = !self.vfio.confined().is_empty();
        let single = [self.on_panic.is_some(), self.watchdog.is_some(), self.pluggable.is_some(), iommu]
            .map(usize::from);
        let own = self.virtio.count() + self.plugged.len() + single.iter().sum::<usize>();
        if devices + own + usize::from(self.pcie_ports) > SEATS {
            problems.add(Class::Usage, SpecError::NoSeats { devices, own, ports: self.pcie_ports });
        }
        self.placement.validate(self.cpus, problems);
        plugged::validate(&self.virtio, &self.plugged, problems);
        balloon::validate(self, problems);
        mem::validate(self, problems);
        iommu::validate(self, problems);
        numa::validate(self, problems);
        let memory = match self.memory {
            0 => Err(SpecError::NoMemory),
            bytes if !bytes.is_multiple_of(PAGE) => Err(SpecError::Unaligned(bytes)),
            _ => Ok(()),
        };
        let pages = problems.keep(Class::Usage, self.backing.check(self.memory));
        problems.keep(Class::Usage, memory).and(pages).is_some()
    }
}
