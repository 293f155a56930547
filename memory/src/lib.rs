//! Guest RAM: where it lies (`layout`), what backs it (`ram`), which host pages it got (`residency`)
//! and how those pages are pinned for devices (`pin`).
//!
//! This crate knows no KVM and no VFIO. Whoever maps memory for devices implements [`pin::DmaMapper`].

pub mod pin;
pub mod range;

pub use range::GuestRange;
