//! The summary of the guest. Its lines are described in the [parent module](super).

use std::io::Write;

use super::console::write_line;
use super::disk::{self, Reading};
use super::nvme::{self, Disk};
use super::system::{System, or_unknown};
use super::{interrupts, pci};

/// Where the summary goes, line by line, and how many problems it has had.
pub(super) struct Report<'a> {
    out: &'a mut dyn Write,
    problems: usize,
}

impl<'a> Report<'a> {
    /// A summary that goes to `out`.
    pub(super) fn new(out: &'a mut dyn Write) -> Self {
        Self { out, problems: 0 }
    }

    /// Prints a line.
    pub(super) fn say(&mut self, line: &str) {
        write_line(self.out, line);
    }

    /// Prints and counts a problem.
    pub(super) fn problem(&mut self, what: &str) {
        self.problems += 1;
        self.say(&format!("problem: {what}"));
    }
}

/// Prints what the machine is: kernel, CPUs, memory.
pub(super) fn machine(system: &System, report: &mut Report<'_>) {
    report.say(&kernel_line());
    report.say(&format!("cpus {} online", or_unknown(system.cpus_online())));
    report.say(&memory_line(system));
}

/// Prints the PCI devices, reads the disks, and prints the line that ends the summary.
pub(super) fn devices(system: &System, report: &mut Report<'_>) {
    // Disks are read first, so that the interrupts of it are in the devices' lines.
    let disks = nvme::disks(system);
    let readings: Vec<_> =
        disks.iter().map(|disk| disk::read_start(&system.path("dev").join(&disk.name))).collect();

    let devices = pci_lines(system);
    devices.iter().for_each(|line| report.say(line));
    let mut read = 0;
    for (disk, reading) in disks.iter().zip(readings) {
        report.say(&disk_line(disk));
        match reading {
            Ok(reading) => {
                read += 1;
                report.say(&reading_line(&disk.name, &reading));
            }
            Err(error) => report.problem(&format!("cannot read /dev/{}: {error}", disk.name)),
        }
    }
    report.say(&format!(
        "summary complete: {} PCI devices, {read} disks read, {} problems",
        devices.len(),
        report.problems
    ));
}

/// One line for each PCI function.
pub(super) fn pci_lines(system: &System) -> Vec<String> {
    let interrupts = interrupts::read(system);
    pci::functions(system).iter().map(|function| function.line(&interrupts)).collect()
}

/// `memory <MiB> MiB total, <MiB> MiB available`.
pub(super) fn memory_line(system: &System) -> String {
    let (total, available) = system.memory_mib();
    format!("memory {} MiB total, {} MiB available", or_unknown(total), or_unknown(available))
}

fn kernel_line() -> String {
    let uname = rustix::system::uname();
    format!("kernel {} {}", uname.release().to_string_lossy(), uname.machine().to_string_lossy())
}

fn disk_line(disk: &Disk) -> String {
    format!("disk /dev/{}, {} bytes, on {}", disk.name, or_unknown(disk.bytes), disk.function)
}

fn reading_line(name: &str, reading: &Reading) -> String {
    let length = match reading.bytes {
        disk::READ_MAX => "8 MiB".to_owned(),
        bytes => format!("{bytes} bytes"),
    };
    format!("read {length} from /dev/{name}, sha256 {}, {} ms", reading.sha256, reading.took.as_millis())
}

#[cfg(test)]
#[path = "summary_test.rs"]
mod tests;
