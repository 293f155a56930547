//! An IOMMU for chosen passed-through devices (virtio 1.2 §5.13; Linux's drivers/iommu/virtio-iommu.c): the guest says what of its
//! memory each of them reaches, and at which addresses.
//!
//! ```text
//! MAP, UNMAP, ATTACH ..   request.rs   what is asked for
//!                         domains.rs   whether it may be; what is mapped, and for whom
//!                         Reach        maps and pins it, or takes it back, in the host's IOMMU
//! PROBE, configuration    space.rs     what the host's IOMMU can map
//! ```
//!
//! One thread answers requests. An endpoint is attached to a domain or reaches nothing: there is no bypass, since nothing runs before
//! the guest's system that would need it. VFIO tells of no faults, so the event queue stays silent. When the driver is gone, so is all that
//! it has mapped.

mod domains;
mod request;
mod space;

use std::io::{self, Read, Write};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};

use memory::{GuestRam, GuestRange, PAGE_SIZE};

use super::worker::QueueServer;
use super::{
    Activation, Active, Chain, DeviceType, Queue, RING_FEATURES, RingError, VirtioDevice, Worker, read_bytes,
};
use crate::sync::lock;
use domains::{Domains, LAST_DOMAIN};
use request::{LONGEST, Refused, Request, TAIL, tail};
pub use space::Space;

const IOMMU: DeviceType = DeviceType { id: 23, pci_class: 0x08_0600 };
/// Linux adds what it can to a queue before it waits.
const QUEUE_SIZE: u16 = 256;
/// The queue of requests; the other one is for events.
const REQUESTS: u16 = 0;
/// Requests that are answered before the thread looks up: one may take long.
const PORTION: u16 = 16;

/// VIRTIO_IOMMU_F_INPUT_RANGE, DOMAIN_RANGE, MAP_UNMAP and PROBE (§5.13.3).
const FEATURES: u64 = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 4;

/// What devices may do with what is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Read it.
    pub read: bool,
    /// Write to it.
    pub write: bool,
}

impl Access {
    /// Both.
    pub const ALL: Self = Self { read: true, write: true };
}

/// Why something is not mapped, or not unmapped. The log says more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreached {
    /// It cannot be pinned, or there are too many maps.
    NoMemory,
    /// The host fails.
    Failed,
}

/// Who has devices reach guest memory: knows the spaces by their numbers, from 0 up. Whatever is asked for has been checked. May
/// take seconds.
pub trait Reach: Send + Sync {
    /// Has each of `spaces` reach `guest`, which is one piece of RAM, at `iova`, which is as long and free there. All or none.
    ///
    /// # Errors
    /// None of them does.
    fn map(
        &self,
        spaces: &[usize],
        iova: &RangeInclusive<u64>,
        guest: GuestRange,
        access: Access,
    ) -> Result<(), Unreached>;

    /// Takes `iova` back from each of `spaces`: whole maps, without a gap.
    ///
    /// # Errors
    /// Something of it stays.
    fn unmap(&self, spaces: &[usize], iova: &RangeInclusive<u64>) -> Result<(), Unreached>;

    /// Takes all back from a space.
    ///
    /// # Errors
    /// Something stays.
    fn clear(&self, space: usize) -> Result<(), Unreached>;
}

/// The device.
pub struct Iommu {
    shared: Arc<Shared>,
    config: Vec<u8>,
}

struct Shared {
    domains: Mutex<Domains>,
    /// Bytes of properties in the answer to a PROBE.
    probe_size: usize,
}

impl Iommu {
    /// In charge of `endpoints`, by the bus, device and function numbers that the guest knows them by, each in one of `spaces`.
    pub fn new(endpoints: Vec<(u32, usize)>, spaces: Vec<Space>, reach: Box<dyn Reach>) -> Self {
        let input = space::input(&spaces);
        let sizes = spaces.iter().map(|space| space.properties(&input).len());
        let probe_size = sizes.max().unwrap_or(0);
        let config = config(&input, probe_size);
        let domains = Mutex::new(Domains::new(endpoints, spaces, input, reach));
        Self { shared: Arc::new(Shared { domains, probe_size }), config }
    }
}

/// `struct virtio_iommu_config` (§5.13.4): pages of 4 KiB and any multiple; which IOVAs and domains there are.
fn config(input: &RangeInclusive<u64>, probe_size: usize) -> Vec<u8> {
    let longs = [!(PAGE_SIZE - 1), *input.start(), *input.end()].map(u64::to_le_bytes).concat();
    let words =
        [0, LAST_DOMAIN, u32::try_from(probe_size).unwrap_or(u32::MAX), 0].map(u32::to_le_bytes).concat();
    [longs, words].concat()
}

impl VirtioDevice for Iommu {
    fn kind(&self) -> DeviceType {
        IOMMU
    }

    fn name(&self) -> String {
        "IOMMU".to_owned()
    }

    fn features(&self) -> u64 {
        RING_FEATURES | FEATURES
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![QUEUE_SIZE; 2]
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        read_bytes(&self.config, offset, data);
    }

    fn activate(&self, driver: Activation) -> io::Result<Box<dyn Active>> {
        let mut driven = Driven { requests: None, shared: self.shared.clone() };
        driver.queues.into_iter().try_for_each(|queue| driven.start_queue(queue))?;
        Ok(Box::new(driven))
    }
}

/// A device with a driver.
struct Driven {
    /// Nobody waits for the other queue.
    requests: Option<Worker<QueueServer>>,
    shared: Arc<Shared>,
}

impl Active for Driven {
    fn stop_queue(&mut self, index: u16) {
        if index == REQUESTS {
            self.requests = None;
        }
    }

    fn start_queue(&mut self, queue: Queue) -> io::Result<()> {
        if queue.index() == REQUESTS {
            let (shared, ram) = (self.shared.clone(), queue.ram().clone());
            let serve = move |chain: &Chain| shared.serve(chain, &ram);
            self.requests = Some(QueueServer::start_with(PORTION, "virtio-iommu", queue, serve)?);
        }
        Ok(())
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        self.requests = None;
        lock(&self.shared.domains).reset();
    }
}

impl Shared {
    /// Answers a request; gives the bytes of the answer.
    fn serve(&self, chain: &Chain, ram: &GuestRam) -> Result<u32, RingError> {
        let mut request = Vec::new();
        chain.reader().take(LONGEST as u64).read_to_end(&mut request).map_err(RingError::Access)?;
        let answer = self.answer(&request, ram);
        let mut writer = chain.writer();
        writer.write_all(&answer).map_err(|_| RingError::Request("request"))?;
        Ok(writer.written())
    }

    /// Does what is asked for. Properties come before the tail, as many bytes of them as were announced.
    fn answer(&self, request: &[u8], ram: &GuestRam) -> Vec<u8> {
        let mut domains = lock(&self.domains);
        let done = match Request::parse(request) {
            Err(refused) => Err(refused),
            Ok(Request::Attach { domain, endpoint }) => domains.attach(domain, endpoint),
            Ok(Request::Detach { domain, endpoint }) => domains.detach(domain, endpoint),
            Ok(Request::Map { domain, first, last, gpa, read, write }) => {
                domains.map(domain, first..=last, gpa, Access { read, write }, ram)
            }
            Ok(Request::Unmap { domain, first, last }) => domains.unmap(domain, first..=last),
            Ok(Request::Probe { endpoint }) => return self.properties(domains.probe(endpoint)),
        };
        tail(done).to_vec()
    }

    fn properties(&self, said: Result<Vec<u8>, Refused>) -> Vec<u8> {
        let (mut bytes, outcome) = match said {
            Ok(bytes) => (bytes, Ok(())),
            Err(refused) => (Vec::new(), Err(refused)),
        };
        bytes.resize(self.probe_size, 0);
        bytes.extend::<[u8; TAIL]>(tail(outcome));
        bytes
    }
}

#[cfg(test)]
#[path = "iommu_test.rs"]
mod tests;
