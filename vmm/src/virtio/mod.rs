//! The virtio devices of a machine: what is asked for, and what of the host is opened for it.

pub mod disk;
pub mod fs;
pub mod net;
pub mod plugged;
pub mod served;
pub mod vsock;

use std::sync::Arc;

use devices::virtio::VirtioDevice;
use devices::virtio::blk::Blk;
use devices::virtio::rng::Rng;

use crate::problem::Problems;
use disk::DiskSpec;
use fs::FsSpec;
use net::NetSpec;
use served::{ServedDisk, ServedNet};
use vsock::VsockSpec;

/// Virtio devices that a machine is to have.
#[derive(Clone, Debug, Default)]
pub struct VirtioSpec {
    /// Disks, in the order in which the guest finds them.
    pub disks: Vec<DiskSpec>,
    /// Network cards, in the order in which the guest finds them.
    pub nets: Vec<NetSpec>,
    /// Disks that daemons serve, after the others.
    pub served_disks: Vec<ServedDisk>,
    /// Network cards that daemons serve, after the others.
    pub served_nets: Vec<ServedNet>,
    /// An entropy device.
    pub rng: bool,
    /// A socket device.
    pub vsock: Option<VsockSpec>,
    /// Shared directories, in the order in which the guest finds them.
    pub shares: Vec<FsSpec>,
}

/// The virtio devices of a machine, with what they have of the host.
#[derive(Default)]
pub(crate) struct VirtioDevices {
    /// All of them, in the order in which the guest finds them.
    pub(crate) all: Vec<Arc<dyn VirtioDevice>>,
    /// Its disks among them, with their names.
    pub(crate) disks: Vec<(String, Arc<Blk>)>,
}

impl VirtioSpec {
    /// How many there are.
    pub fn count(&self) -> usize {
        let single = usize::from(self.rng) + usize::from(self.vsock.is_some());
        let served = self.served_disks.len() + self.served_nets.len() + self.shares.len();
        self.disks.len() + self.nets.len() + single + served
    }

    /// What is wrong with them whatever the host.
    pub(crate) fn validate(&self, problems: &mut Problems) {
        net::validate(&self.nets, problems);
        self.vsock.iter().for_each(|vsock| vsock.validate(problems));
        fs::validate(&self.shares, problems);
        served::validate(self, problems);
    }

    /// Opens what they need of the host. What cannot be had is reported.
    pub(crate) fn open(&self, cpus: u32, problems: &mut Problems) -> VirtioDevices {
        let disks = disk::open(&self.disks, cpus, problems);
        let mut all: Vec<Arc<dyn VirtioDevice>> = Vec::new();
        for disk in &disks {
            all.push(disk.clone());
        }
        let disks_of_daemons = served::connect(self.served_disks.iter().map(ServedDisk::wanted), problems);
        disks_of_daemons.into_iter().for_each(|disk| all.push(Arc::new(disk)));
        for net in net::open(&self.nets, cpus, problems) {
            all.push(Arc::new(net));
        }
        let nets_of_daemons = served::connect(self.served_nets.iter().map(ServedNet::wanted), problems);
        nets_of_daemons.into_iter().for_each(|net| all.push(Arc::new(net)));
        if self.rng {
            all.push(Arc::new(Rng));
        }
        if let Some(vsock) = self.vsock.as_ref().and_then(|vsock| vsock.open(problems)) {
            all.push(vsock);
        }
        let shares = served::connect(self.shares.iter().filter_map(FsSpec::wanted), problems);
        shares.into_iter().for_each(|share| all.push(Arc::new(share)));
        let names = self.disks.iter().enumerate().map(|(number, disk)| disk.name(number));
        VirtioDevices { all, disks: names.zip(disks).collect() }
    }
}
