//! The virtio devices.

use vmm::VirtioSpec;

use super::Config;

impl Config {
    /// The virtio devices of the machine.
    pub(crate) fn virtio_spec(&self) -> VirtioSpec {
        VirtioSpec { rng: self.rng }
    }
}
