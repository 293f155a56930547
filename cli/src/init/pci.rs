//! PCI functions of the guest, from sysfs (`Documentation/ABI/testing/sysfs-bus-pci`).

use std::collections::BTreeMap;
use std::fmt;

use super::class;
use super::interrupts::Interrupt;
use super::system::{System, hex, names, text};

/// Where sysfs lists the functions.
pub(super) const DEVICES: &str = "sys/bus/pci/devices";

/// A PCI function and what the guest's kernel made of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Function {
    /// `0000:00:01.0`.
    pub(super) address: String,
    /// Base class, subclass, programming interface.
    pub(super) class: Option<u32>,
    /// Vendor and device ID.
    pub(super) id: (Option<u32>, Option<u32>),
    /// The driver bound to it.
    pub(super) driver: Option<String>,
    /// Its interrupts.
    pub(super) irqs: Irqs,
}

/// The interrupts of a function, by their Linux numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Irqs {
    /// None at all.
    None,
    /// A line, with or without a handler.
    Legacy(u32),
    /// Message signalled.
    Msi(Vec<u32>),
    /// Message signalled from a table of the device.
    MsiX(Vec<u32>),
}

impl Irqs {
    /// The numbers.
    pub(super) fn numbers(&self) -> &[u32] {
        match self {
            Self::None => &[],
            Self::Legacy(number) => std::slice::from_ref(number),
            Self::Msi(numbers) | Self::MsiX(numbers) => numbers,
        }
    }

    /// How often they were delivered.
    pub(super) fn delivered(&self, interrupts: &BTreeMap<u32, Interrupt>) -> u64 {
        let counts = self.numbers().iter().filter_map(|number| interrupts.get(number));
        counts.fold(0, |sum, interrupt| sum.saturating_add(interrupt.total()))
    }
}

impl fmt::Display for Irqs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("no irqs"),
            Self::Legacy(number) => write!(f, "legacy irq {number}"),
            Self::Msi(numbers) => write!(f, "{} MSI", numbers.len()),
            Self::MsiX(numbers) => write!(f, "{} MSI-X", numbers.len()),
        }
    }
}

impl Function {
    /// Its line in the summary, with the interrupts delivered so far.
    pub(super) fn line(&self, interrupts: &BTreeMap<u32, Interrupt>) -> String {
        let digits = |value: Option<u32>, width| match value {
            Some(value) => format!("{value:0width$x}"),
            None => "unknown".to_owned(),
        };
        let mut line = format!(
            "pci {} {} [{}], {}:{}, ",
            self.address,
            self.class.map_or("device of unknown class", class::name),
            digits(self.class, 6),
            digits(self.id.0, 4),
            digits(self.id.1, 4),
        );
        match &self.driver {
            Some(driver) => line.push_str(&format!("driver {driver}, ")),
            None => line.push_str("no driver, "),
        }
        line.push_str(&self.irqs.to_string());
        if self.irqs != Irqs::None {
            line.push_str(&format!(", {} interrupts", self.irqs.delivered(interrupts)));
        }
        line
    }

    /// Whether it is an NVM Express controller.
    pub(super) fn is_nvme(&self) -> bool {
        self.class == Some(0x01_0802)
    }
}

/// All functions, in order of their addresses.
pub(super) fn functions(system: &System) -> Vec<Function> {
    names(&system.path(DEVICES)).into_iter().map(|address| function(system, address)).collect()
}

fn function(system: &System, address: String) -> Function {
    let dir = system.path(DEVICES).join(&address);
    let driver = std::fs::read_link(dir.join("driver")).ok();
    let driver = driver.and_then(|link| Some(link.file_name()?.to_str()?.to_owned()));
    let id = (hex(&dir.join("vendor")), hex(&dir.join("device")));

    let mut messages: Vec<u32> =
        names(&dir.join("msi_irqs")).iter().filter_map(|name| name.parse().ok()).collect();
    messages.sort_unstable();
    let legacy = text(&dir.join("irq")).and_then(|irq| irq.parse().ok()).filter(|irq| *irq != 0);
    let kind = messages.first().and_then(|first| text(&dir.join(format!("msi_irqs/{first}"))));
    let irqs = match (kind.as_deref(), legacy) {
        (Some("msix"), _) => Irqs::MsiX(messages),
        (Some(_), _) => Irqs::Msi(messages),
        (None, Some(number)) => Irqs::Legacy(number),
        (None, None) => Irqs::None,
    };
    Function { class: hex(&dir.join("class")), address, id, driver, irqs }
}
