//! What this process may do that pinning depends on, read from `/proc`.

use crate::bytes::Bytes;
use crate::text;

const CAP_IPC_LOCK: u32 = 14;

/// Pinned memory this process may hold, per container and, for trial pins, per user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memlock {
    /// RLIMIT_MEMLOCK in bytes; `None` when unlimited or overridden by CAP_IPC_LOCK.
    pub limit: Option<u64>,
}

impl Memlock {
    /// What holds for the calling thread. An unreadable `/proc` counts as unlimited: the kernel will tell.
    pub fn read() -> Self {
        let text = |path| text::read(path).unwrap_or_default();
        Self::parse(&text("/proc/thread-self/status"), &text("/proc/self/uid_map"), || {
            text("/proc/self/limits")
        })
    }

    /// What these files say; the limits are of interest only to those who are bound by them.
    pub fn parse(status: &str, uid_map: &str, limits: impl FnOnce() -> String) -> Self {
        Self { limit: if can_lock(status, uid_map) { None } else { parse_limit(&limits()) } }
    }

    /// Whether `bytes` may be pinned.
    pub fn allows(&self, bytes: u64) -> bool {
        self.limit.is_none_or(|limit| bytes <= limit)
    }
}

impl std::fmt::Display for Memlock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.limit {
            Some(limit) => write!(f, "{:.1}", Bytes(limit)),
            None => f.write_str("unlimited"),
        }
    }
}

/// Whether CAP_IPC_LOCK is effective. It counts only in the initial user namespace, whose uid map is the identity, or
/// absent when the kernel knows no other.
fn can_lock(status: &str, uid_map: &str) -> bool {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    let identity = uid_map.split_whitespace().eq(["0", "0", "4294967295"]);
    (identity || uid_map.is_empty()) && effective >> CAP_IPC_LOCK & 1 == 1
}

/// The soft limit in `Max locked memory       8388608              8388608              bytes`.
fn parse_limit(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
#[path = "privilege_test.rs"]
mod tests;
