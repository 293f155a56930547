//! The virtio devices.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vmm::virtio::balloon::{BalloonSpec, USUAL_PERIOD};
use vmm::{Problems, VirtioSpec, VsockSpec};

use super::Config;
use super::fs::SharedDirectory;
use crate::grammar::types::{Duration, Size};

/// `--vsock`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Vsock {
    /// The Unix socket that programs of the host connect to, for a port of the guest (`CONNECT 52`). What the guest connects
    /// to is at this path with an underscore and the port behind it.
    #[schemars(extend("x-value" = "PATH"))]
    pub(crate) socket: PathBuf,
    /// The guest's address, 3 or more.
    #[serde(default = "first_guest")]
    pub(crate) cid: u32,
}

/// The first address that a guest can have.
fn first_guest() -> u32 {
    3
}

/// `--balloon`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct Balloon {
    /// How much of its memory the guest is asked to give, from the start on.
    pub(crate) size: Size,
    /// The guest tells of pages that are free, which are the host's until they are used.
    pub(crate) free_page_reporting: bool,
    /// A guest that runs out of memory may take some back.
    pub(crate) deflate_on_oom: bool,
    /// How often the guest is asked for statistics of its memory; 0 for never.
    pub(crate) statistics: Duration,
}

impl Default for Balloon {
    fn default() -> Self {
        let statistics = Duration(USUAL_PERIOD);
        Self { size: Size(0), free_page_reporting: false, deflate_on_oom: false, statistics }
    }
}

impl Balloon {
    fn spec(&self) -> BalloonSpec {
        let Self { size: Size(size), free_page_reporting, deflate_on_oom, statistics: Duration(statistics) } =
            *self;
        BalloonSpec { size, free_page_reporting, deflate_on_oom, statistics }
    }
}

impl Config {
    /// The virtio devices of the machine; what makes no sense is reported. Takes over the descriptors that are named.
    pub(crate) fn virtio_spec(&self, problems: &mut Problems) -> VirtioSpec {
        let mut taken = Vec::new();
        VirtioSpec {
            disks: self.disk.iter().filter_map(|disk| disk.spec(problems)).collect(),
            served_disks: self.disk.iter().filter_map(|disk| disk.served(problems)).collect(),
            nets: self.net.iter().filter_map(|net| net.spec(&mut taken, problems)).collect(),
            served_nets: self.net.iter().filter_map(|net| net.served(problems)).collect(),
            rng: self.rng,
            vsock: self.vsock.clone().map(|Vsock { socket, cid }| VsockSpec { cid, socket }),
            shares: self.fs.iter().map(SharedDirectory::spec).collect(),
            balloon: self.balloon.as_ref().map(Balloon::spec),
            console: self.console.iter().filter_map(|port| port.spec(problems)).collect(),
        }
    }
}
