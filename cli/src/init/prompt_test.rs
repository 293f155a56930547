use super::*;
use crate::init::fixture::Fixture;

#[test]
fn commands_are_understood() {
    for (line, expected) in [
        ("", Command::Nothing),
        ("  help\r", Command::Help),
        ("lspci", Command::Lspci),
        ("mem", Command::Mem),
        ("irqs", Command::Irqs),
        ("poweroff", Command::End(End::PowerOff)),
        ("reboot", Command::End(End::Reboot)),
        ("rm -rf", Command::Unknown("rm -rf".into())),
        ("\u{1b}[A", Command::Unknown("\\u{1b}[A".into())),
    ] {
        assert_eq!(Command::parse(line), expected, "{line:?}");
    }
}

#[test]
fn every_command_is_in_the_help() {
    for command in ["help", "lspci", "mem", "irqs", "poweroff", "reboot"] {
        assert!(HELP.lines().any(|line| line.starts_with(command)), "{command}");
    }
}

#[test]
fn interrupts_of_devices_are_listed_per_cpu() {
    assert_eq!(
        irq_lines(&Fixture::new().system()),
        [
            "irq 24 0000:00:01.0: 12 0, PCI-MSIX-0000:00:01.0 0-edge nvme0q0",
            "irq 25 0000:00:01.0: 0 30, PCI-MSIX-0000:00:01.0 1-edge nvme0q1",
            "irq 11 0000:00:02.0: 5 0, IO-APIC 11-fasteoi smbus",
        ]
    );
    assert_eq!(irq_lines(&System::at("/nonexistent")), ["no PCI device has an interrupt in use"]);
}
