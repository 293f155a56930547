//! The expansion ROM: read from the device when the guest first looks at it, and kept.
//!
//! Each read through VFIO maps the ROM and walks its images anew (`pci_map_rom`), and what is in it does not change.

use std::sync::OnceLock;

use super::hardware::Hardware;

/// The contents of a ROM.
#[derive(Default)]
pub(crate) struct Rom(OnceLock<Vec<u8>>);

impl Rom {
    /// Reads at `offset`; all ones past the end.
    pub(crate) fn read(&self, device: &dyn Hardware, number: u8, offset: u64, data: &mut [u8]) {
        let contents = self.0.get_or_init(|| {
            let size = device.bar(number).map_or(0, |region| region.size);
            let mut contents = vec![0xff; usize::try_from(size).unwrap_or(0)];
            device.bar_read(number, 0, &mut contents);
            contents
        });
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let known = contents.get(start..).unwrap_or_default();
        data.fill(0xff);
        data.iter_mut().zip(known).for_each(|(byte, value)| *byte = *value);
    }
}
