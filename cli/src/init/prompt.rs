//! The prompt on the guest's console: a line, an answer. End of input powers off.

use super::console::{ask, say};
use super::power::End;
use super::system::System;
use super::{interrupts, pci, summary};

const HELP: &str = "\
help       this list
lspci      PCI devices with class, driver and interrupts
mem        memory, total and available
irqs       interrupts of the PCI devices, per CPU
poweroff   ends the guest, as does the end of input (Ctrl-D)
reboot     starts it again";

/// A line, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Command {
    Nothing,
    Help,
    Lspci,
    Mem,
    Irqs,
    End(End),
    Unknown(String),
}

impl Command {
    fn parse(line: &str) -> Self {
        match line.trim() {
            "" => Self::Nothing,
            "help" | "?" => Self::Help,
            "lspci" => Self::Lspci,
            "mem" => Self::Mem,
            "irqs" => Self::Irqs,
            "poweroff" | "exit" | "quit" => Self::End(End::PowerOff),
            "reboot" => Self::End(End::Reboot),
            other => Self::Unknown(other.chars().take(40).flat_map(char::escape_debug).collect()),
        }
    }
}

/// Answers commands until one of them, or the end of input, ends the guest.
pub(super) fn run(system: &System) -> End {
    loop {
        let Some(line) = ask("vmm> ") else {
            say("");
            return End::PowerOff;
        };
        match Command::parse(&line) {
            Command::Nothing => {}
            Command::Help => say(HELP),
            Command::Lspci => summary::pci_lines(system).iter().for_each(|line| say(line)),
            Command::Mem => say(&summary::memory_line(system)),
            Command::Irqs => irq_lines(system).iter().for_each(|line| say(line)),
            Command::End(end) => return end,
            Command::Unknown(name) => say(&format!("no command `{name}`: try help")),
        }
    }
}

/// `irq <number> <PCI address>: <count per CPU>, <chip and handlers>`, for each interrupt of a PCI device.
fn irq_lines(system: &System) -> Vec<String> {
    let interrupts = interrupts::read(system);
    let mut lines = Vec::new();
    for function in pci::functions(system) {
        for number in function.irqs.numbers() {
            // One that no handler is attached to is not in the table.
            let Some(interrupt) = interrupts.get(number) else { continue };
            let counts: Vec<_> = interrupt.counts.iter().map(u64::to_string).collect();
            let counts = counts.join(" ");
            lines.push(format!("irq {number} {}: {counts}, {}", function.address, interrupt.label));
        }
    }
    if lines.is_empty() {
        lines.push("no PCI device has an interrupt in use".to_owned());
    }
    lines
}

#[cfg(test)]
#[path = "prompt_test.rs"]
mod tests;
