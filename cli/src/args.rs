//! What can be typed. Every flag is documented here, once.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use devices::pci::PciAddress;
use memory::pin::{HelperCommand, PinOptions, RootHelp, RootHelper};
use miette::Diagnostic;
use thiserror::Error;
use vfio::Request;
use vmm::{Class, Problems};

use crate::ctl::args::CtlArgs;
use crate::pin_helper;
use crate::vfio_args::VfioArgs;

/// A virtual machine monitor for KVM, built for device passthrough.
#[derive(Debug, Parser)]
#[command(name = "vmm", version, propagate_version = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// Say more: -v how long each phase of the start took, -vv and -vvv what happens inside.
    #[arg(short, long, action = ArgAction::Count, global = true, display_order = 100)]
    pub(crate) verbose: u8,
    /// Wait for a machine to be created over this socket (docs/operating.md): a path, or fd=N for a socket handed in.
    #[arg(long, value_name = "PATH")]
    pub(crate) api_socket: Option<String>,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a virtual machine until it powers off.
    Run(RunArgs),
    /// Check what a machine needs of this host, without starting one.
    Check(CheckArgs),
    /// Control a running machine over its socket.
    Ctl(CtlArgs),
    /// List the host's PCI devices, and which of them can be passed through.
    Devices(DevicesArgs),
    /// Take devices from the host's drivers, so that they can be passed through.
    Bind(BindArgs),
    /// Give devices back to the drivers that they had.
    Unbind(BindArgs),
}

/// RAM of a machine that does not say.
pub(crate) const MEMORY: &str = "512M";
const GRACE: &str = "30s";

const RUN_HELP: &str = "\
Without --kernel the running system's kernel boots; without --initrd a built-in guest that shows what it finds, reads \
from a passed-through NVMe drive and takes a few commands. So `vmm run --memfd --vfio 0000:01:00.0` alone tells \
whether passthrough works on this host.

On a terminal the guest's serial console gets every key but Ctrl-A: Ctrl-A x ends the machine, Ctrl-A h shows help, \
Ctrl-A a sends Ctrl-A.

Exit codes: 0 guest powered off, 1 guest failed, 2 usage, 3 the host lacks something, 4 memory could not be pinned, \
5 internal error.";

#[derive(Debug, Args)]
#[command(after_help = RUN_HELP)]
pub(crate) struct RunArgs {
    /// Kernel to boot: a bzImage, or an ELF vmlinux with a PVH entry.
    #[arg(long, value_name = "FILE")]
    pub(crate) kernel: Option<PathBuf>,
    /// Initial RAM file system.
    #[arg(long, value_name = "FILE")]
    pub(crate) initrd: Option<PathBuf>,
    /// The kernel's command line.
    #[arg(long, value_name = "TEXT", default_value = "console=ttyS0")]
    pub(crate) cmdline: String,
    /// RAM, in bytes or with a suffix K, M, G or T (powers of 1024).
    #[arg(long, value_name = "SIZE", default_value = MEMORY)]
    pub(crate) memory: String,
    /// Number of vCPUs.
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) cpus: String,
    /// Back RAM by a memfd. Always so; the flag says it for the reader.
    #[arg(long)]
    pub(crate) memfd: bool,
    #[command(flatten)]
    pub(crate) vfio: VfioArgs,
    /// Have so many free PCIe root ports, into which devices can be plugged while the guest runs.
    #[arg(long, value_name = "N", default_value = "0")]
    pub(crate) pcie_ports: String,
    #[command(flatten)]
    pub(crate) pinning: PinArgs,
    /// Let the machine be controlled over this socket: a path, or fd=N for a socket handed in.
    #[arg(long, value_name = "PATH")]
    pub(crate) api_socket: Option<String>,
    /// How long a guest may take to power off when a signal asked it to: 500ms, 30s, 2m; 0 stops it at once.
    #[arg(long, value_name = "DURATION", default_value = GRACE)]
    pub(crate) grace: String,
    /// End when the guest writes a value v to port 0xf4, with exit code (v << 1) | 1.
    #[arg(long)]
    pub(crate) debug_exit: bool,
}

const CHECK_HELP: &str = "\
Looks at all that a start needs, opens the devices (which resets them) to ask their IOMMU, and prints `ok:` or \
`problem:` for each, problems with their remedy. With --pin it brings guest memory up as a start would, with DMA maps if \
devices are named, prints one line, and takes everything down again. The devices must not be in use.

Exit codes: 0 all is there, 2 usage, 3 the host lacks something, 4 memory could not be had or pinned, or pinned pages lie \
in CMA or ZONE_MOVABLE, or --contents found a change, 5 internal error.";

#[derive(Debug, Args)]
#[command(after_help = CHECK_HELP)]
pub(crate) struct CheckArgs {
    /// Pin memory, instead of only looking whether it could be.
    #[arg(long)]
    pub(crate) pin: bool,
    /// How much, in bytes or with a suffix K, M, G or T (powers of 1024).
    #[arg(long, value_name = "SIZE", default_value = "512M")]
    pub(crate) memory: String,
    #[command(flatten)]
    pub(crate) vfio: VfioArgs,
    #[command(flatten)]
    pub(crate) pinning: PinArgs,
    /// Fill memory with a pattern first, and check afterwards that all of it is still there.
    #[arg(long, requires = "pin")]
    pub(crate) contents: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DevicesArgs {
    /// Say all about these devices, instead of a line on each.
    #[arg(value_name = "BDF")]
    pub(crate) devices: Vec<PciAddress>,
    /// List bridges too.
    #[arg(long)]
    pub(crate) all: bool,
    /// As JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

const BIND_HELP: &str = "\
A device's former driver is remembered under /run/vmm/bind. Whatever interrupts one of them, `vmm bind` and `vmm unbind` \
take it up from there.

Exit codes: 0 done, or nothing to do; 2 usage; 3 refused, or the host lacks something.";

#[derive(Debug, Args)]
#[command(after_help = BIND_HELP)]
pub(crate) struct BindArgs {
    /// The devices.
    #[arg(value_name = "BDF", required = true)]
    pub(crate) devices: Vec<PciAddress>,
    /// All devices of their IOMMU groups as well, which the IOMMU cannot tell apart.
    #[arg(long)]
    pub(crate) group: bool,
    /// Although they are in use: mounted, the way to this host, its only display, or passed through.
    #[arg(long)]
    pub(crate) force: bool,
}

/// How guest memory is brought up.
#[derive(Clone, Debug, Args)]
pub(crate) struct PinArgs {
    /// Fault all memory in before the guest runs. With --vfio that is done anyway, outside CMA, as `pin` says;
    /// `populate` allocates it as other monitors do, anywhere, and then moves it out of CMA.
    #[arg(long, value_name = "HOW", value_enum)]
    pub(crate) prefault: Option<Prefault>,
    /// Look where the pinned pages lie (`census`), or do not (`off`).
    #[arg(long, value_name = "HOW", value_enum, default_value = "census")]
    pub(crate) pin_verify: PinVerify,
    /// How much time pinning may lose to causes that pass: 500ms, 10s, 2m.
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    pub(crate) pin_deadline: String,
    /// What root may do about memory that cannot be moved: `compact` the host's memory once if it has no free huge page,
    /// `split` huge pages. May be several, separated by commas.
    #[arg(long, value_name = "MEANS", value_enum, value_delimiter = ',')]
    pub(crate) pin_root_help: Vec<PinRootHelp>,
    /// Write what pinning came to as JSON, success or failure.
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Write the same as Prometheus metrics, for node_exporter's textfile collector.
    #[arg(long, value_name = "FILE")]
    pub(crate) metrics: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Prefault {
    Pin,
    Populate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PinVerify {
    Off,
    Census,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PinRootHelp {
    Compact,
    Split,
}

impl PinRootHelp {
    fn means(self) -> RootHelp {
        match self {
            Self::Compact => RootHelp::Compact,
            Self::Split => RootHelp::Split,
        }
    }
}

impl Default for PinArgs {
    /// What nobody typed.
    fn default() -> Self {
        #[derive(Parser)]
        struct Nothing {
            #[command(flatten)]
            pinning: PinArgs,
        }
        Nothing::parse_from(["vmm"]).pinning
    }
}

impl PinArgs {
    /// The same for the bring-up; what cannot be read is reported.
    pub(crate) fn options(&self, problems: &mut Problems) -> PinOptions {
        let deadline = parse_duration(&self.pin_deadline).unwrap_or_else(|| {
            problems.add(Class::Usage, BadValue::PinDeadline(self.pin_deadline.clone()));
            Duration::from_secs(10)
        });
        let root_help: Vec<RootHelp> = self.pin_root_help.iter().map(|means| means.means()).collect();
        RootHelper::new(&root_help).check().into_iter().for_each(|error| problems.add(Class::Host, error));
        PinOptions {
            deadline,
            populate: self.prefault == Some(Prefault::Populate),
            root_help,
            verify: self.pin_verify == PinVerify::Census,
            helper: Some(HelperCommand::this_executable(pin_helper::WORD)),
            take_turns: true,
            ..PinOptions::default()
        }
    }
}

/// A value that cannot be read.
#[derive(Debug, Error, Diagnostic)]
pub(crate) enum BadValue {
    #[error("--memory `{0}` is not a size")]
    #[diagnostic(help("give a number of bytes, or a number with K, M, G or T, as in --memory 512M"))]
    Memory(String),
    #[error("--cpus `{0}` is not a number of vCPUs")]
    #[diagnostic(help("give a whole number, as in --cpus 2"))]
    Cpus(String),
    #[error("--pcie-ports `{0}` is not a number of root ports")]
    #[diagnostic(help("give a whole number, as in --pcie-ports 4"))]
    PciePorts(String),
    #[error("--pin-deadline `{0}` is not a duration")]
    #[diagnostic(help("give a whole number with ms, s or m, as in --pin-deadline 10s"))]
    PinDeadline(String),
    #[error("--grace `{0}` is not a duration")]
    #[diagnostic(help("give a whole number with ms, s or m, as in --grace 30s"))]
    Grace(String),
}

/// What `--grace` is without saying.
pub(crate) fn default_grace() -> Duration {
    parse_duration(GRACE).unwrap_or_default()
}

/// The values that need reading.
#[derive(Debug)]
pub(crate) struct Values {
    /// Bytes.
    pub(crate) memory: u64,
    pub(crate) cpus: u32,
    pub(crate) vfio: Request,
    pub(crate) pcie_ports: u8,
    pub(crate) grace: Duration,
}

impl RunArgs {
    /// Reads the values; what cannot be read is reported, and stands in as something valid so that the rest can be
    /// checked as well.
    pub(crate) fn values(&self, problems: &mut Problems) -> Values {
        let memory = read_memory(&self.memory, problems);
        let cpus = self.cpus.parse().unwrap_or_else(|_| {
            problems.add(Class::Usage, BadValue::Cpus(self.cpus.clone()));
            1
        });
        let pcie_ports = self.pcie_ports.parse().unwrap_or_else(|_| {
            problems.add(Class::Usage, BadValue::PciePorts(self.pcie_ports.clone()));
            0
        });
        let grace = parse_duration(&self.grace).unwrap_or_else(|| {
            problems.add(Class::Usage, BadValue::Grace(self.grace.clone()));
            Duration::ZERO
        });
        Values { memory, cpus, vfio: self.vfio.request(problems), pcie_ports, grace }
    }
}

pub(crate) fn read_memory(text: &str, problems: &mut Problems) -> u64 {
    parse_size(text).unwrap_or_else(|| {
        problems.add(Class::Usage, BadValue::Memory(text.to_owned()));
        512 << 20
    })
}

/// Reads `500ms`, `10s`, `2m`; seconds without a unit.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let number: u64 = number.parse().ok()?;
    let ms = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        _ => return None,
    };
    number.checked_mul(ms).map(Duration::from_millis)
}

/// Reads `512M`, `4G`, `4GiB`, `1048576`.
fn parse_size(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, suffix) = text.split_at_checked(digits)?;
    let shift = match suffix.to_ascii_uppercase().trim_end_matches("IB").trim_end_matches('B') {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
#[path = "args_test.rs"]
mod tests;
