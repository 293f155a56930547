//! `--fs`: directories of the host that the guest can mount.

use std::path::PathBuf;

use devices::virtio::fs::USUAL_SIZE;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vmm::virtio::fs::FsSpec;

/// A shared directory.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct SharedDirectory {
    /// The Unix socket that its daemon (virtiofsd) listens at.
    #[schemars(extend("x-value" = "PATH"))]
    pub(crate) socket: PathBuf,
    /// What the guest mounts it by: `mount -t virtiofs TAG /mnt`. 36 bytes at most.
    #[schemars(extend("x-value" = "TAG"))]
    pub(crate) tag: String,
    /// How many request queues it has. virtiofsd serves one.
    #[serde(default = "one")]
    pub(crate) queues: u16,
    /// How many entries each queue has, a power of two.
    #[serde(default = "usual_size")]
    pub(crate) queue_size: u16,
}

fn one() -> u16 {
    1
}

fn usual_size() -> u16 {
    USUAL_SIZE
}

impl SharedDirectory {
    /// What it means.
    pub(super) fn spec(&self) -> FsSpec {
        let Self { socket, tag, queues, queue_size } = self.clone();
        FsSpec { socket, tag, queues, queue_size }
    }
}
