//! Figures that were measured several times, taken together.

use serde::Serialize;

/// What several measurements of one thing come to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Summary {
    pub(super) median: f64,
    pub(super) min: f64,
    /// Half of them lie between these two.
    pub(super) quartiles: [f64; 2],
    pub(super) max: f64,
}

impl Summary {
    /// `None` if nothing was measured.
    pub(super) fn of(measured: impl IntoIterator<Item = f64>) -> Option<Summary> {
        let mut sorted: Vec<f64> = measured.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        Some(Summary {
            median: percentile(&sorted, 50)?,
            min: *sorted.first()?,
            quartiles: [percentile(&sorted, 25)?, percentile(&sorted, 75)?],
            max: *sorted.last()?,
        })
    }
}

/// What the median of all that could have been measured is at least, with a certainty of 95 %, whatever it is distributed like: as many
/// lie below their median as tosses of a coin are heads.
pub(super) fn median_at_least(measured: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = measured.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    // The normal distribution is close enough, and too careful for a few.
    let count = sorted.len() as f64;
    let below = (count / 2.0 - 1.645 * count.sqrt() / 2.0).max(0.0) as usize;
    sorted.get(below.saturating_sub(1)).copied()
}

/// By the nearest rank.
pub(super) fn percentile(sorted: &[f64], percent: usize) -> Option<f64> {
    let rank = sorted.len().saturating_mul(percent).div_ceil(100);
    sorted.get(rank.checked_sub(1)?).copied()
}

#[cfg(test)]
#[path = "figures_test.rs"]
mod tests;
