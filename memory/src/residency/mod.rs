//! Which host pages guest RAM got, and what the host has to give: ZONE_MOVABLE and CMA are the memory a device
//! may not pin. For reports and for locating culprits; whether a page can be pinned is decided by pinning it.
//!
//! Every parser is pure over `&str` and takes any input. Facts: Documentation/admin-guide/mm/pagemap.rst,
//! mm/vmstat.c, mm/cma.c.

pub mod census;
pub mod cma;
pub mod meminfo;
pub mod nodes;
pub mod pagemap;
pub mod pagetypes;
pub mod placement;
pub mod vmstat;
pub mod zones;

pub use census::{Basis, Census, Surveyor, Tally};
pub use cma::{CmaArea, CmaAreas};
pub use meminfo::Meminfo;
pub use nodes::Node;
pub use placement::{Placement, Placements};
pub use vmstat::Vmstat;
pub use zones::{Zone, Zones};

/// Page frame numbers of the host, half-open.
pub type PfnRange = std::ops::Range<u64>;
