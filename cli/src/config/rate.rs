//! How much a device may do: what `rate`, `rx-rate` and `tx-rate` say.

use devices::rate::{Limits, Rate};
use miette::Diagnostic;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use vmm::{Class, Problems};

use crate::grammar::types::Size;

/// How much of a limit can be used at once where nothing is said: what it allows in a tenth of a second.
const USUAL_BURST: u64 = 10;

/// How much a device may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct RateLimits {
    /// Bytes a second.
    pub(crate) bytes: Option<Size>,
    /// Bytes at once after a while without any. A tenth of a second's, if nothing is said.
    pub(crate) bytes_burst: Option<Size>,
    /// Operations a second: requests of a disk, frames of a network card.
    pub(crate) ops: Option<u64>,
    /// Operations at once, likewise.
    pub(crate) ops_burst: Option<u64>,
}

/// Limits that make no sense.
#[derive(Debug, Error, Diagnostic, PartialEq, Eq)]
enum RateError {
    #[error("{0}=0 lets nothing through")]
    #[diagnostic(help("say how many a second, or leave it out: then there is no limit"))]
    Nothing(String),
    #[error("{0}-burst says nothing without {0}")]
    #[diagnostic(help(
        "a burst is what may be done at once under a limit: say how many a second with {0}=N"
    ))]
    BurstAlone(String),
}

impl RateLimits {
    /// What they mean; what makes no sense is reported. `key` is how they are said, as in `--disk rate`.
    pub(super) fn limits(&self, key: &str, problems: &mut Problems) -> Limits {
        let Self { bytes, bytes_burst, ops, ops_burst } = self;
        let mut rate = |what: &str, per_second: Option<u64>, burst: Option<u64>| {
            let name = || format!("{key}.{what}");
            match (per_second, burst) {
                (Some(0), _) => problems.keep(Class::Usage, Err(RateError::Nothing(name()))),
                (None, Some(_)) => problems.keep(Class::Usage, Err(RateError::BurstAlone(name()))),
                (None, None) => None,
                (Some(per_second), burst) => {
                    Some(Rate { per_second, burst: burst.unwrap_or(per_second / USUAL_BURST) })
                }
            }
        };
        Limits {
            bytes: rate("bytes", bytes.map(|size| size.0), bytes_burst.map(|size| size.0)),
            operations: rate("ops", *ops, *ops_burst),
        }
    }
}

#[cfg(test)]
#[path = "rate_test.rs"]
mod tests;
