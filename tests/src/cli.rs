//! What can be typed after `cargo lab`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::bench::Bench;
use crate::host::{Clock, HostKernel, HostSpec};

/// Virtual hosts with KVM, an IOMMU, CMA and devices to pass through, on any machine.
#[derive(Parser)]
#[command(name = "lab", bin_name = "cargo lab")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Install, build and fetch what the lab needs, and check a host
    Setup {
        /// Also look for newer kernels than those there
        #[arg(long)]
        renew: bool,
    },
    /// Run a command in a fresh lab host; the exit status is the command's
    Exec(ExecOptions),
    /// Run a shell in a fresh lab host
    Shell(ShellOptions),
    /// Pass an NVMe through to a guest of a lab host, and check what the guest read from it
    Demo(HostOptions),
    /// Run every test: format, lints, unit tests, and the cases in the lab
    Test {
        /// Run only the steps and cases whose names contain this
        filter: Option<String>,
        /// Also fail for a system call that the sandbox allows and no case needs
        #[arg(long, conflicts_with = "filter")]
        rules: bool,
    },
    /// Measure: a table as it goes, and a JSON file
    Bench(BenchOptions),
    /// Build what is committed as it is released, twice, and check and list what it is made from
    Release,
    /// Run unit tests under AddressSanitizer and Miri, with a nightly toolchain
    Sanitize,
    /// Feed garbage to all that reads what others wrote; exit status 1 if that finds something
    Fuzz(FuzzOptions),
}

#[derive(Args)]
pub(crate) struct FuzzOptions {
    /// The target, as in tests/fuzz/fuzz_targets; otherwise all, one after another
    pub(crate) target: Option<String>,
    /// How long each target is fuzzed, on all CPUs
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) minutes: u32,
    /// Feed these inputs and nothing else, to see what they do
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "target")]
    pub(crate) input: Vec<PathBuf>,
}

#[derive(Args)]
pub(crate) struct BenchOptions {
    /// What to measure; otherwise all of it, one after another, which takes hours
    #[arg(value_enum)]
    pub(crate) name: Option<Bench>,
    /// How often each thing is done that is measured; of what is quick, several times as often
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) starts: u32,
    /// Only rows whose names contain one of these, as in `lab/compaction/4K/prevent`
    #[arg(long, value_name = "TEXT", num_args = 1.., requires = "name")]
    pub(crate) only: Vec<String>,
    /// Of `start`: these binaries, in one run, instead of one that is built as it is released
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub(crate) vmm: Vec<PathBuf>,
    /// Where the JSON goes, with a picture beside it (.svg); otherwise bench/NAME.json in cargo's target directory
    #[arg(long, value_name = "FILE", requires = "name")]
    pub(crate) json: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct ExecOptions {
    #[command(flatten)]
    pub(crate) host: HostOptions,
    /// Kill the command after so many seconds; 0 is never
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub(crate) timeout: u64,
    /// Bring the files that the command wrote under /out to this directory
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// The command and its arguments; /lab is its working directory, `vmm` and busybox are on its PATH
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(crate) command: Vec<String>,
}

#[derive(Args)]
pub(crate) struct ShellOptions {
    #[command(flatten)]
    pub(crate) host: HostOptions,
    /// Bring the files written under /out to this directory
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct HostOptions {
    /// Put files or directories under /lab in the host
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub(crate) add: Vec<PathBuf>,
    /// The kernel of the host
    #[arg(long, value_enum, default_value = "lab")]
    pub(crate) host_kernel: HostKernel,
    /// The host's memory, such as 2560M or 3G
    #[arg(long, value_name = "SIZE", default_value = "3072M", value_parser = mebibytes)]
    pub(crate) memory: u32,
    /// The host's CPUs
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=8))]
    pub(crate) cpus: u32,
    /// Width of the IOMMU's addresses, in bits
    #[arg(long, value_name = "BITS", default_value = "48", value_parser = ["39", "48"])]
    pub(crate) aw_bits: String,
    /// Add to the host's kernel command line; of a repeated option the last counts
    #[arg(long, value_name = "OPTIONS", default_value = "", allow_hyphen_values = true)]
    pub(crate) append: String,
    /// Add to QEMU's arguments, split at white space; PCI slots 3 to 0x1c are free
    #[arg(long, value_name = "ARGS", default_value = "", allow_hyphen_values = true)]
    pub(crate) qemu: String,
    /// Leave the NVMe (0000:00:01.0) and the NIC (0000:00:02.0) to the host's drivers
    #[arg(long)]
    pub(crate) no_bind: bool,
    /// Have the host's clock count instructions, a nanosecond each; it has one CPU then, and what it measures repeats
    #[arg(long)]
    pub(crate) count_instructions: bool,
    /// Also write the host's console to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) console: Option<PathBuf>,
}

impl HostOptions {
    /// The machine that was asked for.
    pub(crate) fn spec(&self) -> HostSpec {
        let spec = HostSpec {
            kernel: self.host_kernel,
            memory_mib: self.memory,
            cpus: self.cpus,
            aw_bits: if self.aw_bits == "39" { 39 } else { 48 },
            append: self.append.clone(),
            qemu: self.qemu.clone(),
            bind: !self.no_bind,
            clock: Clock::Time,
            add: self.add.clone(),
        };
        if self.count_instructions { spec.counting_instructions() } else { spec }
    }
}

/// The least memory that a lab host comes up with.
const LEAST_MIB: u32 = 512;

fn mebibytes(text: &str) -> Result<u32, String> {
    let (digits, unit) = match text.trim_end_matches(|c: char| c.is_ascii_alphabetic()) {
        digits if text.ends_with(['G', 'g']) => (digits, 1024),
        digits => (digits, 1),
    };
    let suffix = text.get(digits.len()..).unwrap_or_default();
    if !matches!(suffix, "" | "M" | "m" | "G" | "g") {
        return Err("give MiB, such as 2560M, or GiB, such as 3G".to_owned());
    }
    let mib = digits.parse::<u32>().ok().and_then(|number| number.checked_mul(unit));
    match mib {
        Some(mib) if mib >= LEAST_MIB => Ok(mib),
        Some(mib) => Err(format!("{mib} MiB are too few: a host needs {LEAST_MIB}")),
        None => Err("give MiB, such as 2560M, or GiB, such as 3G".to_owned()),
    }
}

#[cfg(test)]
#[path = "cli_test.rs"]
mod tests;
