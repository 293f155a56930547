//! `--hotplug-memory`: memory that can be plugged in while the guest runs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vmm::virtio::mem::MemSpec;

use crate::grammar::types::Size;

/// Room for it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct HotplugMemory {
    /// How much can be plugged in at the most.
    pub(crate) size: Size,
    /// How much of it the guest is to have from the start on.
    #[serde(default = "nothing")]
    pub(crate) plugged: Size,
}

fn nothing() -> Size {
    Size(0)
}

impl HotplugMemory {
    /// What it means.
    pub(crate) fn spec(&self) -> MemSpec {
        let Self { size: Size(size), plugged: Size(plugged) } = *self;
        MemSpec { size, plugged }
    }
}
