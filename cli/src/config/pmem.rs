//! `--pmem`: files that the guest has as persistent memory.

use std::path::PathBuf;

use devices::virtio::pmem::PmemOptions;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::grammar::types::Size;

/// Persistent memory.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Pmem {
    /// A file or a block device, whose bytes it is.
    #[schemars(extend("x-value" = "FILE"))]
    pub(crate) path: PathBuf,
    /// The guest cannot write to it: what it writes is forgotten.
    #[serde(default)]
    pub(crate) ro: bool,
    /// How much of the file the guest has, from its start on: a multiple of 2M. All of it, if nothing is said.
    pub(crate) size: Option<Size>,
    /// Keep others from the file while it is used.
    #[serde(default = "yes")]
    pub(crate) lock: bool,
}

fn yes() -> bool {
    true
}

impl Pmem {
    /// What it means.
    pub(super) fn options(&self) -> PmemOptions {
        let Self { path, ro, size, lock } = self.clone();
        PmemOptions { path, read_only: ro, size: size.map(|Size(size)| size), lock }
    }
}
