//! The pinning subsystem: guest pages are pinned outside CMA and ZONE_MOVABLE before a device may touch them.

pub mod mapper;

pub use mapper::{Chunk, DmaMapper, MapError};
