//! The virtio devices.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vmm::virtio::balloon::{BalloonSpec, USUAL_PERIOD};
use vmm::{Problems, VirtioSpec};

use super::Config;
use super::fs::SharedDirectory;
use super::pmem::Pmem;
use crate::grammar::types::{Duration, Size};

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
            pmems: self.pmem.iter().map(Pmem::options).collect(),
            nets: self.net.iter().filter_map(|net| net.spec(&mut taken, problems)).collect(),
            served_nets: self.net.iter().filter_map(|net| net.served(problems)).collect(),
            rng: self.rng,
            vsock: self.vsock.as_ref().and_then(|vsock| vsock.spec(problems)),
            shares: self.fs.iter().map(SharedDirectory::spec).collect(),
            balloon: self.balloon.as_ref().map(Balloon::spec),
            console: self.console.iter().filter_map(|port| port.spec(problems)).collect(),
        }
    }
}
