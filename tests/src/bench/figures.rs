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

/// By the nearest rank.
pub(super) fn percentile(sorted: &[f64], percent: usize) -> Option<f64> {
    let rank = sorted.len().saturating_mul(percent).div_ceil(100);
    sorted.get(rank.checked_sub(1)?).copied()
}

#[cfg(test)]
#[path = "figures_test.rs"]
mod tests;
