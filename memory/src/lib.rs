//! Guest RAM: where it lies (`layout`), what backs it (`ram`, `hugepages`), files beside it (`persistent`), which host pages it got (`residency`)
//! and how those pages are pinned for devices (`pin`).
//!
//! This crate knows no KVM and no VFIO. Whoever maps memory for devices implements [`pin::DmaMapper`].

mod bind;
pub mod bytes;
pub mod discard;
pub mod hugepages;
pub mod layout;
pub mod persistent;
pub mod pin;
pub mod plugged;
pub mod ram;
pub mod range;
mod reservation;
pub mod residency;
mod text;

#[cfg(test)]
mod fuzz;

pub use bytes::Bytes;
pub use discard::DiscardError;
pub use hugepages::{Backing, HugePageError};
pub use layout::{AddressLimits, Layout, LayoutError};
pub use persistent::PersistentMemory;
pub use plugged::PluggedMemory;
pub use ram::{GuestRam, RamError, RamRegion};
pub use range::GuestRange;

/// Size of the pages everything here counts in, in bytes.
pub const PAGE_SIZE: u64 = 4096;
