//! `vmm check` without a machine: the host as a whole. What it has is read ([`facts`]), and what that means for a guest with
//! passed-through devices is judged apart from it ([`judge`]). Nothing is opened that could be in a guest's way.

mod facts;
mod judge;

use super::findings::Findings;
use facts::Facts;

/// Checks; returns the exit code.
pub(super) fn check(json: bool) -> u8 {
    let mut findings = Findings::new(json);
    judge::judge(&Facts::read()).into_iter().for_each(|finding| findings.add(finding));
    findings.end()
}

#[cfg(test)]
#[path = "host_test.rs"]
mod tests;
