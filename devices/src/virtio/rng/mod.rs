//! An entropy device (virtio 1.3 §5.4): fills the driver's buffers from the host's random number generator.
//!
//! It is one thread that fills as much as it is asked for, up to [`PORTION`] bytes a buffer: a driver that asks for more
//! gets less, as the specification allows, and asks again.

use std::io::{self, Write};

use rustix::rand::GetRandomFlags;

use super::worker::QueueServer;
use super::{Activation, Active, Chain, DeviceType, PerQueue, RING_FEATURES, RingError, VirtioDevice};

const RNG: DeviceType = DeviceType { id: 4, pci_class: 0x00_ff00 };
const QUEUE_SIZE: u16 = 64;
/// Most bytes given for one chain.
const PORTION: usize = 4096;

/// An entropy device.
#[derive(Debug, Default)]
pub struct Rng;

impl VirtioDevice for Rng {
    fn kind(&self) -> DeviceType {
        RNG
    }

    fn name(&self) -> String {
        "entropy device".to_owned()
    }

    fn features(&self) -> u64 {
        RING_FEATURES
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![QUEUE_SIZE]
    }

    fn read_config(&self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn activate(&self, driver: Activation) -> io::Result<Box<dyn Active>> {
        PerQueue::start(driver.queues, |queue| QueueServer::start("virtio-rng", queue, fill))
    }
}

/// Fills a chain with random bytes.
fn fill(chain: &Chain) -> Result<u32, RingError> {
    if chain.writable_bytes() == 0 {
        return Err(RingError::Request("request for entropy"));
    }
    let mut random = [0; PORTION];
    let wanted = usize::try_from(chain.writable_bytes()).map_or(PORTION, |bytes| bytes.min(PORTION));
    let random = random.get_mut(..wanted).unwrap_or_default();
    // The kernel's generator waits until it is seeded, and does not fail.
    let filled = rustix::rand::getrandom(&mut *random, GetRandomFlags::empty()).unwrap_or(0);
    let mut writer = chain.writer();
    writer.write_all(random.get(..filled).unwrap_or_default()).map_err(RingError::Access)?;
    Ok(writer.written())
}

#[cfg(test)]
#[path = "rng_test.rs"]
mod tests;
