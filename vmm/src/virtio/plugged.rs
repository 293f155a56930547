//! Virtio devices behind root ports of their own, which come and go while the guest runs: one at a time, with names to
//! remove them by.

use std::sync::Arc;

use devices::virtio::VirtioDevice;
use devices::virtio::blk::Blk;

use super::disk::DiskSpec;
use super::fs::FsSpec;
use super::net::NetSpec;
use super::vsock::{VsockError, VsockSpec};
use super::{VirtioDevices, VirtioSpec};
use crate::problem::{Class, Problems};

/// A device that can come and go.
#[derive(Clone, Debug)]
pub enum Pluggable {
    /// A disk.
    Disk(DiskSpec),
    /// A network card.
    Net(NetSpec),
    /// A shared directory.
    Share(FsSpec),
    /// A socket device.
    Vsock(VsockSpec),
}

/// A device that is to be behind a root port.
#[derive(Clone, Debug)]
pub struct PluggedSpec {
    /// Its name; no other device of the machine has it.
    pub id: String,
    /// What it is.
    pub device: Pluggable,
}

/// The same with what it has of the host, which is given back when this is dropped.
pub struct Plugged {
    /// Its name.
    pub(crate) id: String,
    /// The device.
    pub(crate) device: Arc<dyn VirtioDevice>,
    /// The same, if it is a disk.
    pub(crate) disk: Option<Arc<Blk>>,
}

impl PluggedSpec {
    /// Opens what it needs of the host; with more than one problem nothing stays open.
    pub(crate) fn open(&self, cpus: u32) -> Result<Arc<Plugged>, Problems> {
        let mut alone = VirtioSpec::default();
        alone.take(&self.device);
        let mut problems = Problems::default();
        alone.validate(&mut problems);
        let VirtioDevices { all, disks, .. } = alone.open(cpus, &mut problems);
        match all.into_iter().next() {
            Some(device) if problems.0.is_empty() => {
                let disk = disks.into_iter().next().map(|(_, disk)| disk);
                Ok(Arc::new(Plugged { id: self.id.clone(), device, disk }))
            }
            _ => Err(problems),
        }
    }
}

impl VirtioSpec {
    /// Has this device as well. Of several socket devices the last one stays.
    fn take(&mut self, device: &Pluggable) {
        match device.clone() {
            Pluggable::Disk(disk) => self.disks.push(disk),
            Pluggable::Net(net) => self.nets.push(net),
            Pluggable::Share(share) => self.shares.push(share),
            Pluggable::Vsock(vsock) => self.vsock = Some(vsock),
        }
    }
}

/// What is wrong with all virtio devices of a machine together, whatever the host.
pub(crate) fn validate(fixed: &VirtioSpec, plugged: &[PluggedSpec], problems: &mut Problems) {
    let mut all = fixed.clone();
    plugged.iter().for_each(|spec| all.take(&spec.device));
    all.validate(problems);
    let vsocks = plugged.iter().filter(|spec| matches!(spec.device, Pluggable::Vsock(_))).count();
    if vsocks + usize::from(fixed.vsock.is_some()) > 1 {
        problems.add(Class::Usage, VsockError::Second);
    }
}

/// Opens all of them. What cannot be had is reported.
pub(crate) fn open(specs: &[PluggedSpec], cpus: u32, problems: &mut Problems) -> Vec<Arc<Plugged>> {
    let open = |spec: &PluggedSpec| match spec.open(cpus) {
        Ok(plugged) => Some(plugged),
        Err(Problems(more)) => {
            problems.0.extend(more);
            None
        }
    };
    specs.iter().filter_map(open).collect()
}

#[cfg(test)]
#[path = "plugged_test.rs"]
mod tests;
