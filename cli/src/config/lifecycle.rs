//! What becomes of a guest that panics, asks for a reset, or powers off.

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

/// `--watchdog`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Watchdog {
    Stop,
    Reset,
}

impl Watchdog {
    pub(crate) fn means(self) -> vmm::OnExpiry {
        match self {
            Self::Stop => vmm::OnExpiry::Stop,
            Self::Reset => vmm::OnExpiry::Reset,
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

/// `--on-exit`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum OnExit {
    #[default]
    Stop,
    Reset,
    Keep,
}

impl OnExit {
    pub(crate) fn means(self) -> vmm::OnExit {
        match self {
            Self::Stop => vmm::OnExit::Stop,
            Self::Reset => vmm::OnExit::Reset,
            Self::Keep => vmm::OnExit::Keep,
        }
    }
}
