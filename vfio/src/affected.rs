//! Which functions a hot reset of a device takes with it, and whether all of them are ours (`vfio_pci_hot_reset_info` in
//! linux/vfio.h). By their groups for a device that was opened through one, else by what its iommufd says.

use std::mem::offset_of;

use devices::pci::PciAddress;
use vfio_bindings::bindings::vfio::{
    VFIO_PCI_HOT_RESET_FLAG_DEV_ID, vfio_pci_dependent_device, vfio_pci_hot_reset_info,
};

use crate::info::word;

/// `VFIO_PCI_DEVID_NOT_OWNED`.
const NOT_OWNED: u32 = u32::MAX;

/// The functions of a slot or bus, those of buses below included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Affected {
    functions: Vec<Function>,
    /// Whether `number` is a device ID of an iommufd, and not a group.
    by_id: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Function {
    address: PciAddress,
    number: u32,
}

impl Affected {
    /// Reads the answer to `VFIO_DEVICE_GET_PCI_HOT_RESET_INFO`. `None`: it holds less than it promises.
    pub(crate) fn parse(answer: &[u8]) -> Option<Self> {
        let flags = word(answer, offset_of!(vfio_pci_hot_reset_info, flags))?;
        let count = word(answer, offset_of!(vfio_pci_hot_reset_info, count))? as usize;
        let (functions, _) = answer
            .get(size_of::<vfio_pci_hot_reset_info>()..)?
            .as_chunks::<{ size_of::<vfio_pci_dependent_device>() }>();
        let functions: Vec<Function> = functions.get(..count)?.iter().map(function).collect();
        Some(Self { functions, by_id: flags & VFIO_PCI_HOT_RESET_FLAG_DEV_ID != 0 })
    }

    /// The groups to prove possession of, or none where an iommufd knows; or else the functions that are not ours.
    /// `attached` are the groups that are.
    pub(crate) fn groups(&self, attached: &[u32]) -> Result<Vec<u32>, Vec<PciAddress>> {
        let is_foreign = |function: &&Function| match self.by_id {
            true => function.number == NOT_OWNED,
            false => !attached.contains(&function.number),
        };
        let foreign: Vec<PciAddress> =
            self.functions.iter().filter(is_foreign).map(|function| function.address).collect();
        if !foreign.is_empty() {
            return Err(foreign);
        }
        let numbers = self.functions.iter().map(|function| function.number).filter(|_| !self.by_id);
        let mut groups: Vec<u32> = numbers.collect();
        groups.sort_unstable();
        groups.dedup();
        Ok(groups)
    }

    /// Where they are.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = PciAddress> {
        self.functions.iter().map(|function| function.address)
    }
}

fn function(bytes: &[u8; size_of::<vfio_pci_dependent_device>()]) -> Function {
    let [a, b, c, d, low, high, bus, devfn] = *bytes;
    let segment = u16::from_ne_bytes([low, high]);
    let address = PciAddress { segment, bus, device: devfn >> 3, function: devfn & 7 };
    Function { address, number: u32::from_ne_bytes([a, b, c, d]) }
}

#[cfg(test)]
#[path = "affected_test.rs"]
mod tests;
