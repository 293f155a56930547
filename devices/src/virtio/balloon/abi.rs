//! Feature bits of a balloon (virtio 1.3 §5.5.3).

/// There is a queue for statistics.
pub(super) const STATISTICS: u64 = 1 << 1;
/// Pages may be taken back when the guest has no memory left.
pub(super) const DEFLATE_ON_OOM: u64 = 1 << 2;
/// There is a queue for free pages.
pub(super) const FREE_PAGES: u64 = 1 << 5;
