//! What becomes of a guest that panics, or asks for a reset.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `--on-panic`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum OnPanic {
    Stop,
    Reset,
}

impl OnPanic {
    pub(crate) fn means(self) -> vmm::OnPanic {
        match self {
            Self::Stop => vmm::OnPanic::Stop,
            Self::Reset => vmm::OnPanic::Reset,
        }
    }
}

/// `--on-reboot`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum OnReboot {
    #[default]
    Reset,
    Stop,
}
