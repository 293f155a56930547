//! The cases, a file for each topic. A case is a function that takes a `Ctx`; its topic's `all` names it and
//! the host it wants.

mod host;
mod lab;

use crate::suite::Case;

/// Every case, in the order in which they are started.
pub(crate) fn all() -> Vec<Case> {
    [host::all(), lab::all()].into_iter().flatten().collect()
}
