//! Guest memory is pinned outside CMA whoever holds its pages, whatever dies or is forbidden, and nothing stays behind; on
//! a host whose memory is mostly CMA.

mod area;
mod deaths;
mod fallbacks;
mod holders;
mod hostile;
mod hugepages;
mod limits;
mod scene;
mod turns;

use crate::suite::Case;

pub(super) fn all() -> Vec<Case> {
    [
        area::all(),
        holders::all(),
        deaths::all(),
        turns::all(),
        fallbacks::all(),
        limits::all(),
        hostile::all(),
        hugepages::all(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
