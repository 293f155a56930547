//! What a guest says of its memory (virtio 1.3 §5.5.6.4): pairs of a tag and a value. Tags from 10 on are those of Linux
//! (include/uapi/linux/virtio_balloon.h).

use std::time::Instant;

use crate::virtio::queue::Reader;

/// Bytes of a pair: a tag of 16 bits and a value of 64, packed.
const PAIR: usize = 10;

/// What the tags mean, by their numbers; and whether it is counted since the guest booted, or is what there is just now.
const NAMES: [(&str, bool); 16] = [
    ("swapped_in_bytes", true),
    ("swapped_out_bytes", true),
    ("major_faults", true),
    ("minor_faults", true),
    ("free_bytes", false),
    ("total_bytes", false),
    ("available_bytes", false),
    ("disk_caches_bytes", false),
    ("hugetlb_allocations", true),
    ("hugetlb_failures", true),
    ("oom_kills", true),
    ("allocation_stalls", true),
    ("async_scans", true),
    ("direct_scans", true),
    ("async_reclaims", true),
    ("direct_reclaims", true),
];

/// What a guest said of its memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statistics {
    /// When it said so.
    pub taken: Instant,
    /// By tag.
    values: [Option<u64>; NAMES.len()],
}

impl Statistics {
    /// Reads them, no more than there are tags, whatever the length of the buffer.
    pub(super) fn read(mut reader: Reader) -> Self {
        let mut pair = || {
            let [t0, t1, value @ ..] = reader.array::<PAIR>()?;
            Some((u16::from_le_bytes([t0, t1]), u64::from_le_bytes(value)))
        };
        Self::new((0..NAMES.len()).map_while(|_| pair()))
    }

    /// From pairs of tag and value. What is not known is passed over, and so is what is said a second time.
    pub fn new(pairs: impl Iterator<Item = (u16, u64)>) -> Self {
        let mut values = [None; NAMES.len()];
        for (tag, value) in pairs {
            if let Some(place) = values.get_mut(usize::from(tag)) {
                place.get_or_insert(value);
            }
        }
        Self { taken: Instant::now(), values }
    }

    /// Those that the guest gave.
    pub fn all(&self) -> impl Iterator<Item = Statistic> {
        let statistic = |((name, counted), value)| Some(Statistic { name, value: value?, counted });
        NAMES.into_iter().zip(self.values).filter_map(statistic)
    }
}

/// One thing that a guest said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statistic {
    /// What it is about.
    pub name: &'static str,
    /// Bytes, if its name says so, or how often.
    pub value: u64,
    /// Whether it is counted since the guest booted, or is what there is just now.
    pub counted: bool,
}
