//! Memory that comes and goes while the guest runs (virtio 1.3 §5.15; Linux's drivers/virtio/virtio_mem.c): a region of guest
//! addresses whose blocks the driver asks for, as many as the device says that the guest should have.
//!
//! ```text
//! Mem::resize -> requested_size -> the driver plugs blocks in, or out      request.rs    what it may ask for
//!                plugged_size   <- what it has                             Owner         what becomes of the blocks
//! ```
//!
//! One thread answers requests. Which blocks there are, and which are plugged in, guest memory knows ([`PluggedMemory`]); a block that
//! comes is the [`Owner`]'s to pin for devices before the driver hears that it is there, and one that goes is theirs no more before its pages
//! are the host's. The driver may not touch what is not plugged in; a guest that does anyway has pages there all the same, up to the
//! region's size.

mod request;

use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use memory::plugged::{BLOCK, Blocks};
use memory::{GuestRam, GuestRange, PluggedMemory};

use super::worker::QueueServer;
use super::{
    Activation, Active, Chain, DeviceType, Notifier, PerQueue, RING_FEATURES, RingError, VirtioDevice,
    read_bytes,
};
use crate::sync::lock;
use request::{Answer, REQUEST, Request};

const MEM: DeviceType = DeviceType { id: 24, pci_class: 0x05_8000 };
/// Linux has one request under way.
const QUEUE_SIZE: u16 = 32;
/// What is not plugged in may not even be read (§5.15.3, VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE).
const INACCESSIBLE: u64 = 1 << 1;

/// Who decides on blocks that come and go: takes them in and out of the devices' reach, and notes it.
pub trait Owner: Send + Sync {
    /// All blocks of `range` are to be plugged in; none is. Returns whether they are: all or none. May take seconds.
    fn plug(&self, range: GuestRange) -> bool;
    /// No block of `range` is plugged in any more.
    fn unplug(&self, range: GuestRange);
}

/// What a device is just now, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemState {
    /// What the guest has been told to have.
    pub requested: u64,
    /// What it has.
    pub plugged: u64,
    /// What it can have at the most.
    pub size: u64,
}

/// The device.
pub struct Mem {
    shared: Arc<Shared>,
}

struct Shared {
    ram: Arc<GuestRam>,
    owner: Box<dyn Owner>,
    requested: AtomicU64,
    /// The way to the driver, while there is one.
    notifier: Mutex<Option<Notifier>>,
}

impl Mem {
    /// The device of the memory that can be plugged into `ram`, of which the guest is to have `requested` bytes from the start on.
    pub fn new(ram: Arc<GuestRam>, owner: Box<dyn Owner>, requested: u64) -> Self {
        let (requested, notifier) = (AtomicU64::new(requested), Mutex::new(None));
        Self { shared: Arc::new(Shared { ram, owner, requested, notifier }) }
    }

    /// Tells the guest to have `size` bytes, whole blocks, and no more than there are.
    pub fn resize(&self, size: u64) {
        let before = self.shared.requested.swap(size, Ordering::AcqRel);
        if before != size
            && let Some(notifier) = &*lock(&self.shared.notifier)
        {
            notifier.config_changed();
        }
    }

    /// What it is just now.
    pub fn state(&self) -> MemState {
        let requested = self.shared.requested.load(Ordering::Acquire);
        let memory = self.shared.ram.pluggable();
        let (plugged, size) = memory.map_or((0, 0), |it| (it.size(), it.region().guest.size));
        MemState { requested, plugged, size }
    }
}

impl VirtioDevice for Mem {
    fn kind(&self) -> DeviceType {
        MEM
    }

    fn name(&self) -> String {
        "pluggable memory".to_owned()
    }

    fn features(&self) -> u64 {
        RING_FEATURES | INACCESSIBLE
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![QUEUE_SIZE]
    }

    /// `struct virtio_mem_config` (§5.15.4). All of the region can be used from the start; there is one NUMA node.
    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let start = self.shared.ram.pluggable().map_or(0, |it| it.region().guest.start);
        let MemState { requested, plugged, size } = self.state();
        let node = 0;
        let fields = [BLOCK, node, start, size, size, plugged, requested];
        read_bytes(&fields.map(u64::to_le_bytes).concat(), offset, data);
    }

    fn activate(&self, driver: Activation) -> io::Result<Box<dyn Active>> {
        *lock(&self.shared.notifier) = Some(driver.notifier.clone());
        let shared = self.shared.clone();
        PerQueue::start(driver.queues, move |queue| {
            let shared = shared.clone();
            QueueServer::start("virtio-mem", queue, move |chain| shared.serve(chain))
        })
    }
}

impl Shared {
    /// Answers a request; gives the bytes of the answer.
    fn serve(&self, chain: &Chain) -> Result<u32, RingError> {
        let mut request = Vec::new();
        chain.reader().take(REQUEST as u64).read_to_end(&mut request).map_err(RingError::Access)?;
        let answer = match (Request::parse(&request), self.ram.pluggable()) {
            (Some(request), Some(memory)) => self.answer(request, memory),
            _ => Answer::Error,
        };
        let mut writer = chain.writer();
        writer.write_all(&answer.to_bytes()).map_err(|_| RingError::Request("request"))?;
        Ok(writer.written())
    }

    /// Does what is asked for, as far as the driver may ask for it (§5.15.6).
    fn answer(&self, request: Request, memory: &PluggedMemory) -> Answer {
        match request {
            Request::Plug(range) if memory.look(range) == Some(Blocks::Unplugged) => {
                let requested = self.requested.load(Ordering::Acquire);
                if memory.size().saturating_add(range.size) > requested {
                    return Answer::No;
                }
                if self.owner.plug(range) { Answer::Done } else { Answer::Busy }
            }
            Request::Unplug(range) if memory.look(range) == Some(Blocks::Plugged) => {
                self.owner.unplug(range);
                Answer::Done
            }
            Request::UnplugAll => {
                self.owner.unplug(memory.region().guest);
                Answer::Done
            }
            Request::State(range) => memory.look(range).map_or(Answer::Error, Answer::State),
            Request::Plug(_) | Request::Unplug(_) => Answer::Error,
        }
    }
}

#[cfg(test)]
#[path = "mem_test.rs"]
mod tests;
