//! How guest memory is brought up.

use memory::pin::{HelperCommand, PinOptions, RootHelp, RootHelper};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vmm::{Class, Problems};

use super::Config;
use crate::pin_helper;

/// `--prefault`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Prefault {
    Pin,
    Populate,
}

/// `--pin-verify`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum PinVerify {
    Off,
    Census,
}

/// `--pin-root-help`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum PinRootHelp {
    Compact,
    Split,
}

impl PinRootHelp {
    fn means(self) -> RootHelp {
        match self {
            Self::Compact => RootHelp::Compact,
            Self::Split => RootHelp::Split,
        }
    }
}

impl Config {
    /// How memory is pinned; what this process may not do is reported.
    pub(crate) fn pin_options(&self, problems: &mut Problems) -> PinOptions {
        let root_help: Vec<RootHelp> = self.pin_root_help.iter().map(|means| means.means()).collect();
        RootHelper::new(&root_help).check().into_iter().for_each(|error| problems.add(Class::Host, error));
        PinOptions {
            deadline: self.pin_deadline.0,
            populate: self.prefault == Some(Prefault::Populate),
            root_help,
            verify: self.pin_verify == PinVerify::Census,
            helper: Some(HelperCommand::this_executable(pin_helper::WORD)),
            take_turns: true,
            ..PinOptions::default()
        }
    }
}
