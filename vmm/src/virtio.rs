//! The virtio devices of a machine: what is asked for, and what of the host is opened for it.

use std::sync::Arc;

use devices::virtio::VirtioDevice;
use devices::virtio::rng::Rng;

use crate::problem::Problems;

/// Virtio devices that a machine is to have.
#[derive(Clone, Debug, Default)]
pub struct VirtioSpec {
    /// An entropy device.
    pub rng: bool,
}

impl VirtioSpec {
    /// How many there are.
    pub fn count(&self) -> usize {
        usize::from(self.rng)
    }

    /// Opens what they need of the host, in the order in which the guest finds them. What cannot be had is reported.
    pub(crate) fn open(&self, _problems: &mut Problems) -> Vec<Arc<dyn VirtioDevice>> {
        let mut devices: Vec<Arc<dyn VirtioDevice>> = Vec::new();
        if self.rng {
            devices.push(Arc::new(Rng));
        }
        devices
    }
}
