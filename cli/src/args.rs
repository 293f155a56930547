//! What can be typed. Every flag is documented here, once.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand};
use devices::pci::PciAddress;
use miette::Diagnostic;
use thiserror::Error;
use vmm::{Class, Problems};

/// A virtual machine monitor for KVM, built for device passthrough.
#[derive(Debug, Parser)]
#[command(name = "vmm", version, propagate_version = true)]
pub(crate) struct Cli {
    /// Say more: -v how long each phase of the start took, -vv and -vvv what happens inside.
    #[arg(short, long, action = ArgAction::Count, global = true, display_order = 100)]
    pub(crate) verbose: u8,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a virtual machine until it powers off.
    Run(RunArgs),
}

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
    #[arg(long, value_name = "SIZE", default_value = "512M")]
    pub(crate) memory: String,
    /// Number of vCPUs.
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) cpus: String,
    /// Back RAM by a memfd. Always so; the flag says it for the reader.
    #[arg(long)]
    pub(crate) memfd: bool,
    /// Pass a host PCI device through, named by its address alone. May be repeated.
    #[arg(long, value_name = "BDF")]
    pub(crate) vfio: Vec<String>,
    /// End when the guest writes a value v to port 0xf4, with exit code (v << 1) | 1.
    #[arg(long)]
    pub(crate) debug_exit: bool,
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
    #[error("--vfio `{0}` is not a PCI address")]
    #[diagnostic(help(
        "give SEGMENT:BUS:DEVICE.FUNCTION as `lspci -D` prints it, as in --vfio 0000:01:00.0 or 01:00.0"
    ))]
    Vfio(String),
}

/// The values that need reading.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Values {
    /// Bytes.
    pub(crate) memory: u64,
    pub(crate) cpus: u32,
    pub(crate) vfio: Vec<PciAddress>,
}

impl RunArgs {
    /// Reads the values; what cannot be read is reported, and stands in as something valid so that the rest can be
    /// checked as well.
    pub(crate) fn values(&self, problems: &mut Problems) -> Values {
        let mut bad = |value: BadValue| problems.add(Class::Usage, value);
        let memory = parse_size(&self.memory).unwrap_or_else(|| {
            bad(BadValue::Memory(self.memory.clone()));
            512 << 20
        });
        let cpus = self.cpus.parse().unwrap_or_else(|_| {
            bad(BadValue::Cpus(self.cpus.clone()));
            1
        });
        let mut vfio = Vec::new();
        for text in &self.vfio {
            match text.parse() {
                Ok(address) => vfio.push(address),
                Err(_) => bad(BadValue::Vfio(text.clone())),
            }
        }
        Values { memory, cpus, vfio }
    }
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
