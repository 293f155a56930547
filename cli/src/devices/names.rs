//! Names of PCI vendors, devices and classes, from the system's pci.ids (<https://pci-ids.ucw.cz>) where it has one.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::init::class;

/// Where distributions put it.
const PLACES: [&str; 3] = ["/usr/share/misc/pci.ids", "/usr/share/hwdata/pci.ids", "/usr/share/pci.ids"];
/// Several times its size, in bytes.
const LARGEST: u64 = 16 << 20;

/// The names that are known.
#[derive(Debug, Default)]
pub(super) struct Names {
    vendors: HashMap<u16, String>,
    devices: HashMap<(u16, u16), String>,
    /// By base class and subclass.
    classes: HashMap<u16, String>,
}

/// What the lines that are indented belong to.
enum Section {
    Vendor(u16),
    Class(u8),
    Other,
}

impl Names {
    /// The system's; empty if it has none.
    pub(super) fn of_system() -> Self {
        PLACES.iter().find_map(|place| Self::load(Path::new(place))).unwrap_or_default()
    }

    fn load(path: &Path) -> Option<Self> {
        let mut bytes = Vec::new();
        File::open(path).ok()?.take(LARGEST).read_to_end(&mut bytes).ok()?;
        Some(Self::parse(&String::from_utf8_lossy(&bytes)))
    }

    fn parse(text: &str) -> Self {
        let mut names = Self::default();
        let mut section = Section::Other;
        for line in text.lines() {
            if line.starts_with('#') || line.trim().is_empty() || line.starts_with("\t\t") {
                continue;
            }
            match (line.strip_prefix('\t'), &section) {
                (Some(line), Section::Vendor(vendor)) => {
                    if let Some((device, name)) = entry(line, 4) {
                        names.devices.insert((*vendor, device), name);
                    }
                }
                (Some(line), Section::Class(base)) => {
                    if let Some((subclass, name)) = entry(line, 2) {
                        names.classes.insert(u16::from(*base) << 8 | subclass, name);
                    }
                }
                (Some(_), Section::Other) => {}
                (None, _) => {
                    section = if let Some((base, _)) = line.strip_prefix("C ").and_then(|line| entry(line, 2))
                    {
                        Section::Class(base as u8)
                    } else if let Some((vendor, name)) = entry(line, 4) {
                        names.vendors.insert(vendor, name);
                        Section::Vendor(vendor)
                    } else {
                        Section::Other
                    };
                }
            }
        }
        names
    }

    /// Name of a 24-bit class code.
    pub(super) fn class(&self, code: u32) -> &str {
        let subclass = u16::try_from(code >> 8).ok();
        let known = subclass.and_then(|subclass| self.classes.get(&subclass));
        known.map_or_else(|| class::name(code), String::as_str)
    }

    /// A vendor's name.
    pub(super) fn vendor(&self, vendor: u16) -> Option<&str> {
        self.vendors.get(&vendor).map(String::as_str)
    }

    /// A device's name, without its vendor's.
    pub(super) fn device(&self, vendor: u16, device: u16) -> Option<&str> {
        self.devices.get(&(vendor, device)).map(String::as_str)
    }
}

/// `8086  Intel Corporation`: a number of so many digits, two spaces, a name.
fn entry(line: &str, digits: usize) -> Option<(u16, String)> {
    let (number, name) = line.split_at_checked(digits)?;
    let name = name.strip_prefix("  ")?.trim();
    let number = number.bytes().all(|byte| byte.is_ascii_hexdigit()).then_some(number)?;
    Some((u16::from_str_radix(number, 16).ok()?, name.to_owned()))
}

#[cfg(test)]
#[path = "names_test.rs"]
mod tests;
