//! `/proc/meminfo` (fs/proc/meminfo.c): how much memory the host has and how much of it is CMA.

use std::io;

use crate::text;

/// The figures that matter here, in bytes. What the kernel does not print is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meminfo {
    /// All memory.
    pub total: u64,
    /// Free memory.
    pub free: u64,
    /// An estimate of what can be had without swapping; counts free CMA and ZONE_MOVABLE memory too.
    pub available: u64,
    /// Free swap space.
    pub swap_free: u64,
    /// Memory in CMA areas.
    pub cma_total: u64,
    /// Free memory in CMA areas.
    pub cma_free: u64,
}

impl Meminfo {
    /// The host's figures now.
    ///
    /// # Errors
    /// `/proc/meminfo` cannot be read, or is not what the kernel writes there.
    pub fn read() -> io::Result<Self> {
        Self::parse_whole(&text::read("/proc/meminfo")?)
    }

    fn parse_whole(text: &str) -> io::Result<Self> {
        let info = Self::parse(text);
        let named = "/proc/meminfo names no MemTotal";
        if info.total > 0 { Ok(info) } else { Err(io::Error::new(io::ErrorKind::InvalidData, named)) }
    }

    /// Reads the figures out of `text`; other lines are ignored.
    pub fn parse(text: &str) -> Self {
        let mut info = Self::default();
        for line in text.lines() {
            let Some((key, value)) = line.split_once(':') else { continue };
            let field = match key {
                "MemTotal" => &mut info.total,
                "MemFree" => &mut info.free,
                "MemAvailable" => &mut info.available,
                "SwapFree" => &mut info.swap_free,
                "CmaTotal" => &mut info.cma_total,
                "CmaFree" => &mut info.cma_free,
                _ => continue,
            };
            let kib = value.split_whitespace().next().and_then(|n| n.parse::<u64>().ok());
            *field = kib.unwrap_or(0).saturating_mul(1024);
        }
        info
    }
}

#[cfg(test)]
#[path = "meminfo_test.rs"]
mod tests;
