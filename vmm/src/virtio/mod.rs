//! The virtio devices of a machine: what is asked for, and what of the host is opened for it.

pub mod balloon;
pub mod console;
pub mod disk;
pub mod fs;
pub mod iommu;
pub mod mem;
pub mod net;
pub mod plugged;
pub mod pmem;
pub mod served;
pub mod vsock;

use std::sync::Arc;

use devices::virtio::VirtioDevice;
use devices::virtio::balloon::Balloon;
use devices::virtio::blk::Blk;
use devices::virtio::mem::Mem;
use devices::virtio::pmem::{PmemFile, PmemOptions};
use devices::virtio::rng::Rng;

use crate::problem::Problems;
use balloon::BalloonSpec;
use console::PortSpec;
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
    /// Persistent memory, in the order in which the guest finds it, after all other virtio devices.
    pub pmems: Vec<PmemOptions>,
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
    /// A memory balloon.
    pub balloon: Option<BalloonSpec>,
    /// The ports of a console device, if it has any.
    pub console: Vec<PortSpec>,
}

/// The virtio devices of a machine, with what they have of the host.
#[derive(Default)]
pub(crate) struct VirtioDevices {
    /// All of them, in the order in which the guest finds them.
    pub(crate) all: Vec<Arc<dyn VirtioDevice>>,
    /// Its disks among them, with their names.
    pub(crate) disks: Vec<(String, Arc<Blk>)>,
    /// Its balloon among them.
    pub(crate) balloon: Option<Arc<Balloon>>,
    /// The files of its persistent memory, whose devices come with its RAM.
    pub(crate) pmems: Vec<Arc<PmemFile>>,
    /// Its pluggable memory among them, which comes with its RAM.
    pub(crate) pluggable: Option<Arc<Mem>>,
}

impl VirtioDevices {
    /// Bytes of each piece of persistent memory.
    pub(crate) fn persistent(&self) -> Vec<u64> {
        self.pmems.iter().map(|file| file.size()).collect()
    }
}

impl VirtioSpec {
    /// How many there are.
    pub fn count(&self) -> usize {
        let console = !self.console.is_empty();
        let single = [self.rng, self.vsock.is_some(), self.balloon.is_some(), console].map(usize::from);
        let served = self.served_disks.len() + self.served_nets.len() + self.shares.len();
        self.disks.len() + self.pmems.len() + self.nets.len() + single.iter().sum::<usize>() + served
    }

    /// What is wrong with them whatever the host.
    pub(crate) fn validate(&self, problems: &mut Problems) {
        net::validate(&self.nets, problems);
        self.vsock.iter().for_each(|vsock| vsock.validate(problems));
        fs::validate(&self.shares, problems);
        served::validate(self, problems);
        console::validate(&self.console, problems);
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
        let balloon = self.balloon.as_ref().map(BalloonSpec::device);
        if let Some(balloon) = &balloon {
            all.push(balloon.clone());
        }
        if let Some(console) = console::open(&self.console, problems) {
            all.push(console);
        }
        let pmems = pmem::open(self, problems);
        let names = self.disks.iter().enumerate().map(|(number, disk)| disk.name(number));
        VirtioDevices { all, disks: names.zip(disks).collect(), balloon, pmems, pluggable: None }
    }
}
