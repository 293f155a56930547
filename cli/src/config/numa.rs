//! `--numa`: nodes of the guest.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vmm::numa::NumaNode;

use crate::grammar::types::{Cpus, Size};

/// A NUMA node.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Numa {
    /// Its share of --memory, a multiple of 2M.
    pub(crate) memory: Size,
    /// Its vCPUs: `0-3`, or in quotes `"0-3,8"`.
    #[serde(default)]
    pub(crate) cpus: Cpus,
    /// The NUMA node of the host that its memory is on.
    #[schemars(extend("x-value" = "N"))]
    pub(crate) host_node: Option<u32>,
}

impl Numa {
    /// What it means.
    pub(crate) fn node(&self) -> NumaNode {
        let Self { memory: Size(memory), cpus: Cpus(cpus), host_node } = self.clone();
        NumaNode { memory, cpus, host_node }
    }
}
