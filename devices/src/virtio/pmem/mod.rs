//! Persistent memory (virtio 1.3 §5.19; Linux's drivers/nvdimm/virtio_pmem.c and nd_virtio.c): a file of the host that the guest
//! has as memory, past its own page cache. The driver asks for one thing only, that what it has written be made durable.
//!
//! ```text
//! PmemOptions -> PmemFile::open      file.rs     which file, whose, and how much of it
//! memory::PersistentMemory                       where the guest has it
//! QueueServer, a thread                          flushes, off the vCPUs
//! ```
//!
//! Writes of the guest are those of a process to a file that it has mapped: in the host's page cache at once, so that they outlive vmm,
//! and durable with the next flush, so that they outlive the host.

mod file;

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use memory::GuestRange;

pub use file::{PmemError, PmemFile, PmemOptions};

use super::worker::QueueServer;
use super::{
    Activation, Active, Chain, DeviceType, PerQueue, RING_FEATURES, RingError, VirtioDevice, read_bytes,
};

const PMEM: DeviceType = DeviceType { id: 27, pci_class: 0x05_8000 };
const QUEUE_SIZE: u16 = 64;
/// The one request there is (VIRTIO_PMEM_REQ_TYPE_FLUSH).
const FLUSH: u32 = 0;
/// What a request is answered (VIRTIO_PMEM_RESP_TYPE_OK and _EIO).
const DONE: u32 = 0;
const FAILED: u32 = 1;

/// The device of a file.
pub struct Pmem {
    file: Arc<PmemFile>,
    guest: GuestRange,
}

impl Pmem {
    /// The device of `file`, which the guest has at `guest`.
    pub fn new(file: Arc<PmemFile>, guest: GuestRange) -> Self {
        Self { file, guest }
    }

    /// Where its file is.
    pub fn path(&self) -> &Path {
        self.file.path()
    }
}

impl VirtioDevice for Pmem {
    fn kind(&self) -> DeviceType {
        PMEM
    }

    fn name(&self) -> String {
        format!("persistent memory {}", self.path().display())
    }

    fn features(&self) -> u64 {
        RING_FEATURES
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![QUEUE_SIZE]
    }

    /// `struct virtio_pmem_config` (§5.19.4).
    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let fields = [self.guest.start, self.guest.size];
        read_bytes(&fields.map(u64::to_le_bytes).concat(), offset, data);
    }

    fn activate(&self, driver: Activation) -> io::Result<Box<dyn Active>> {
        let file = self.file.clone();
        PerQueue::start(driver.queues, move |queue| {
            let file = file.clone();
            QueueServer::start("virtio-pmem", queue, move |chain| serve(chain, &file))
        })
    }
}

/// Answers a request (`struct virtio_pmem_req`); gives the bytes of the answer. That of a second flush takes no time if nothing was
/// written since the first.
fn serve(chain: &Chain, file: &PmemFile) -> Result<u32, RingError> {
    let incomplete = || RingError::Request("flush");
    let kind = chain.reader().array().map(u32::from_le_bytes).ok_or_else(incomplete)?;
    let mut writer = chain.writer();
    if writer.remaining() < 4 {
        return Err(incomplete());
    }
    let answer = match kind {
        FLUSH => file.flush().map_or_else(
            |error| {
                let path = file.path().display();
                tracing::warn!(%path, %error, "persistent memory cannot be flushed, the guest sees an I/O error");
                FAILED
            },
            |()| DONE,
        ),
        _ => FAILED,
    };
    writer.write_all(&answer.to_le_bytes()).map_err(RingError::Access)?;
    Ok(writer.written())
}

#[cfg(test)]
#[path = "pmem_test.rs"]
mod tests;
