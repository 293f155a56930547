//! Devices that do not do as they say, by vendor and device ID.

/// What is done differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quirk {
    /// The MSI-X pending bits are so many bytes into their BAR if the place they are said to be at is past its end.
    PendingBits(u32),
    /// The expansion ROM is not touched.
    NoRom,
}

/// A device, or several whose IDs agree in the bits of the mask.
struct Entry {
    vendor: u16,
    device: u16,
    mask: u16,
    quirk: Quirk,
    /// For the log.
    why: &'static str,
}

const ALL: u16 = 0xffff;

const TABLE: &[Entry] = &[
    Entry {
        vendor: 0x1425,
        device: 0x5800,
        mask: 0xff00,
        quirk: Quirk::PendingBits(0x1000),
        why: "Chelsio T5 virtual functions place their pending bits at 0x8000 of a BAR of 8 KiB",
    },
    Entry {
        vendor: 0x1d22,
        device: 0x3685,
        mask: ALL,
        quirk: Quirk::PendingBits(0xb400),
        why: "Kunlun virtual functions place their pending bits at 0x460000 of a BAR of 64 KiB",
    },
    Entry {
        vendor: 0x14e4,
        device: 0x168e,
        mask: ALL,
        quirk: Quirk::NoRom,
        why: "reading the expansion ROM of a BCM57810 may hang the host",
    },
];

/// What is to be done differently for a device, each with the reason.
pub(crate) fn of(vendor: u16, device: u16) -> impl Iterator<Item = (Quirk, &'static str)> {
    let concerns = move |entry: &&Entry| entry.vendor == vendor && (entry.device ^ device) & entry.mask == 0;
    TABLE.iter().filter(concerns).map(|entry| (entry.quirk, entry.why))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quirks(vendor: u16, device: u16) -> Vec<Quirk> {
        of(vendor, device).map(|(quirk, _)| quirk).collect()
    }

    #[test]
    fn entries_match_by_mask() {
        assert_eq!(quirks(0x1425, 0x5807), [Quirk::PendingBits(0x1000)]);
        assert_eq!(quirks(0x1425, 0x5407), []);
        assert_eq!(quirks(0x14e4, 0x168e), [Quirk::NoRom]);
        assert_eq!(quirks(0x8086, 0x168e), []);
        assert!(TABLE.iter().all(|entry| entry.device & !entry.mask == 0 && !entry.why.is_empty()));
    }
}
