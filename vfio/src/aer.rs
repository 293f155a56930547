//! What devices have reported by Advanced Error Reporting (PCIe base 6.0 §6.2), as the host's kernel counts it
//! (Documentation/ABI/testing/sysfs-bus-pci-devices-aer).

use std::collections::BTreeMap;

use devices::pci::PciAddress;

use crate::sysfs::Host;
use crate::text;

/// The kernel's files about uncorrectable errors, and what it calls those.
const FILES: [(&str, &str); 2] = [("aer_dev_fatal", "fatal"), ("aer_dev_nonfatal", "non-fatal")];
/// Lines with sums start so.
const TOTAL: &str = "TOTAL_";

/// How often each uncorrectable error was reported. Empty where the kernel does not count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ErrorCounts(BTreeMap<String, u64>);

impl Host {
    /// The uncorrectable errors of a device so far.
    pub(crate) fn uncorrectable_errors(&self, address: PciAddress) -> ErrorCounts {
        let mut counts = BTreeMap::new();
        for (file, severity) in FILES {
            let text = text::read_or_empty(&self.device_path(address).join(file));
            let pairs =
                text.lines().filter(|line| !line.starts_with(TOTAL)).filter_map(|line| line.split_once(' '));
            counts.extend(pairs.filter_map(|(name, count)| {
                Some((format!("{name} ({severity})"), count.trim().parse().ok()?))
            }));
        }
        ErrorCounts(counts)
    }
}

impl ErrorCounts {
    /// The errors that came after `before`, as in `MalfTLP (fatal)`.
    pub(crate) fn since(&self, before: &Self) -> Vec<String> {
        let is_new = |(name, count): &(&String, &u64)| *count > before.0.get(*name).unwrap_or(&0);
        self.0.iter().filter(is_new).map(|(name, _)| name.clone()).collect()
    }
}

#[cfg(test)]
#[path = "aer_test.rs"]
mod tests;
