//! What can be typed. Every flag is documented once: here, or what describes a machine in [`crate::config`].

use std::path::PathBuf;

use clap::{ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use devices::pci::PciAddress;

use crate::config;
use crate::config::args::MachineArgs;
use crate::ctl::args::{CtlArgs, MemoryArgs};
use crate::top::args::TopArgs;

/// A virtual machine monitor for KVM, built for device passthrough.
#[derive(Debug, Parser)]
#[command(name = "vmm", version, propagate_version = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// Say more: -v how long each phase of the start took, -vv and -vvv what happens inside.
    #[arg(short, long, action = ArgAction::Count, global = true, display_order = 100)]
    pub(crate) verbose: u8,
    /// What to log, instead of -v: a level (error, warn, info, debug, trace), or levels of modules, as in vfio=debug,memory=trace.
    #[arg(long, value_name = "FILTER", global = true, display_order = 101)]
    pub(crate) log: Option<String>,
    /// How: as text for people, or as JSON, an object a line.
    #[arg(
        long,
        value_name = "FORMAT",
        global = true,
        display_order = 102,
        value_enum,
        default_value = "text"
    )]
    pub(crate) log_format: LogFormat,
    /// Wait for a machine to be created over this socket (docs/operating.md): a path, or fd=N for a socket handed in.
    #[arg(long, value_name = "PATH")]
    pub(crate) api_socket: Option<String>,
    /// With --api-socket: let vmm ask of the kernel what it needs and no more, or anything, and say what else it keeps itself from, as
    /// in `vmm run`.
    #[arg(long, value_name = "HOW", requires = "api_socket")]
    pub(crate) sandbox: Option<String>,
    /// With --api-socket: write what happens to machines as JSON, a line for each event: to a file, or to fd=N.
    #[arg(long, value_name = "FILE", requires = "api_socket")]
    pub(crate) events: Option<String>,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

impl Cli {
    /// What was typed. Ends the process if that cannot be, or is a question.
    pub(crate) fn typed() -> Self {
        // What is there to be read takes longer to put together than a start does without.
        Self::try_parse().unwrap_or_else(|_| {
            let matches = Self::documented().get_matches();
            Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
        })
    }

    /// All that can be typed, with all there is to be read about it.
    pub(crate) fn documented() -> clap::Command {
        let machine = |command: clap::Command, name| command.mut_subcommand(name, config::args::documented);
        ["run", "check"].into_iter().fold(Self::command(), machine)
    }
}

/// What a line of the log looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a virtual machine until it powers off.
    Run(RunArgs),
    /// Check this host, or what a machine needs of it, without starting one.
    Check(CheckArgs),
    /// Control a running machine over its socket.
    Ctl(CtlArgs),
    /// Draw where a running guest's memory lies.
    Memory(MemoryArgs),
    /// Show what running guests are doing.
    Top(TopArgs),
    /// List the host's PCI devices, and which of them can be passed through.
    Devices(DevicesArgs),
    /// Take devices from the host's drivers, so that they can be passed through.
    Bind(BindArgs),
    /// Give devices back to the drivers that they had.
    Unbind(BindArgs),
    /// Print the JSON schema of the files that `--config` takes.
    Schema,
    /// Print a script by which a shell completes vmm's commands and flags.
    Completions {
        /// The shell.
        #[arg(value_name = "SHELL")]
        shell: Shell,
    },
    /// Write man pages, one for each command.
    Man {
        /// Where to.
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
}

const RUN_HELP: &str = "\
Without --kernel the running system's kernel boots; without --initrd a built-in guest that shows what it finds, reads \
from a passed-through NVMe drive and takes a few commands. So `vmm run --memfd --vfio 0000:01:00.0` alone tells \
whether passthrough works on this host.

On a terminal the guest's serial console gets every key but Ctrl-A: Ctrl-A x ends the machine, Ctrl-A h shows help, \
Ctrl-A a sends Ctrl-A.

Exit codes: 0 guest powered off, 1 guest failed, 2 usage, 3 the host lacks something, 4 memory could not be pinned, \
5 internal error, 6 the sandbox stopped vmm.";

#[derive(Debug, Args)]
#[command(after_help = RUN_HELP)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) machine: MachineArgs,
    /// Start nothing. Print the machine that all of this comes to, as a file that --config takes, with where each value
    /// is from.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Back RAM by a memfd. Always so; the flag says it for the reader.
    #[arg(long)]
    pub(crate) memfd: bool,
}

const CHECK_HELP: &str = "\
Without flags it looks at what the host has for passthrough as a whole, and prints `ok:`, `warning:` or `problem:` for each \
thing, with what mends it. With flags that describe a machine it looks at all that a start of that machine needs, and opens \
its devices (which resets them) to ask their IOMMU. With --pin it brings guest memory up as a start would, with DMA maps if \
devices are named, prints one line, and takes everything down again. The devices must not be in use.

Exit codes: 0 all is there, 2 usage, 3 the host lacks something, 4 memory could not be had or pinned, or pinned pages lie \
in CMA or ZONE_MOVABLE, or --contents found a change, 5 internal error.";

#[derive(Debug, Args)]
#[command(after_help = CHECK_HELP)]
pub(crate) struct CheckArgs {
    /// Pin memory, instead of only looking whether it could be.
    #[arg(long)]
    pub(crate) pin: bool,
    #[command(flatten)]
    pub(crate) machine: MachineArgs,
    /// Fill memory with a pattern first, and check afterwards that all of it is still there.
    #[arg(long, requires = "pin")]
    pub(crate) contents: bool,
    /// Print what was found as JSON.
    #[arg(long, conflicts_with = "pin")]
    pub(crate) json: bool,
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

#[cfg(test)]
#[path = "args_test.rs"]
mod tests;
