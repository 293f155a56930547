//! Devices whose queues another process serves, a daemon at a Unix socket: the front end of vhost-user (QEMU's
//! docs/interop/vhost-user.rst). Guest memory is a memfd, which the daemon maps; doorbells and interrupts go between it and
//! KVM. Nothing of a request passes through here.
//!
//! ```text
//! VhostUser   the device, for the session: what the daemon offers, the connection while no driver is there
//! Link        a connection: messages with deadlines                                           link.rs
//! Kept        from DRIVER_OK to the reset, with a thread (Keeper) that sees the daemon go     keeper.rs
//! Ring        a queue as the daemon is told of it                                             ring.rs
//! ```
//!
//! A daemon that goes away takes nothing with it: requests wait in their rings until one is back at the socket. It gets
//! memory, features and rings as the one before had them, and goes on where the used ring ends.

mod error;
mod keeper;
mod link;
mod ring;
#[cfg(test)]
mod scripted;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use virtio_bindings::virtio_config::VIRTIO_F_RING_RESET;

use super::{Activation, Active, DeviceType, RING_FEATURES, VirtioDevice, read_bytes};
use crate::sync::lock;
pub use error::DaemonError;
use keeper::Kept;
use link::Link;
use ring::Signals;

/// Time that a daemon has for an answer. Ending a queue may wait for the daemon's own disk.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A device that a daemon is to serve.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// What messages call it.
    pub name: String,
    /// Where the daemon listens.
    pub socket: PathBuf,
    /// Its kind.
    pub device: DeviceType,
    /// Features of its kind that may be offered if the daemon offers them.
    pub features: u64,
    /// Features of its kind that are ours, whatever the daemon.
    pub ours: u64,
    /// The largest size of each queue.
    pub queue_sizes: Vec<u16>,
    /// Its configuration.
    pub config: Config,
    /// Time that the daemon has for each answer, such as [`PATIENCE`].
    pub patience: Duration,
}

/// Who knows a device's configuration.
#[derive(Clone, Debug)]
pub enum Config {
    /// We do.
    Ours(Vec<u8>),
    /// The daemon does.
    Daemons {
        /// How many bytes of it there are.
        size: u32,
        /// Looks at what it says, and puts in what only we know, such as the number of queues.
        settle: fn(&mut [u8], u16) -> Result<(), &'static str>,
    },
}

impl Wanted {
    /// Connects to the daemon, which has `patience` for each answer, and sees whether it can serve the device; gives the
    /// device's configuration too.
    fn connect(&self, patience: Duration) -> Result<(Link, Vec<u8>), DaemonError> {
        let mut link = Link::open(&self.socket, patience)?;
        let (served, wanted) = (link.queues(), self.queue_sizes.len() as u64);
        if served < wanted {
            return Err(DaemonError::Queues { path: self.socket.clone(), served, wanted });
        }
        let config = match &self.config {
            Config::Ours(config) => config.clone(),
            Config::Daemons { size, settle } => {
                let mut config = link.config(*size)?;
                let (queues, _) = self.dimensions();
                settle(&mut config, queues)
                    .map_err(|what| DaemonError::Config { path: self.socket.clone(), what })?;
                config
            }
        };
        Ok((link, config))
    }

    /// How many queues there are, and the largest size of one.
    fn dimensions(&self) -> (u16, u16) {
        let sizes = &self.queue_sizes;
        (sizes.len() as u16, sizes.iter().copied().max().unwrap_or_default())
    }
}

/// A device that a daemon serves.
pub struct VhostUser(Arc<Shared>);

struct Shared {
    wanted: Wanted,
    offered: u64,
    config: Mutex<Vec<u8>>,
    /// While no driver is there.
    link: Mutex<Option<Link>>,
    /// By queue.
    signals: Mutex<BTreeMap<u16, Signals>>,
}

impl VhostUser {
    /// Connects to the daemon.
    ///
    /// # Errors
    /// There is none, or it cannot serve such a device.
    pub fn connect(wanted: Wanted) -> Result<Self, DaemonError> {
        let (link, config) = wanted.connect(wanted.patience)?;
        // Queues are reset one by one without the daemon's knowledge of it: ending and beginning them is all it takes.
        let reset = 1 << VIRTIO_F_RING_RESET;
        let offered = link.offered() & (wanted.features | RING_FEATURES) | wanted.ours | reset;
        let (config, link) = (Mutex::new(config), Mutex::new(Some(link)));
        let wanted = Wanted { ours: wanted.ours | reset, ..wanted };
        Ok(Self(Arc::new(Shared { wanted, offered, config, link, signals: Mutex::default() })))
    }
}

impl VirtioDevice for VhostUser {
    fn kind(&self) -> DeviceType {
        self.0.wanted.device
    }

    fn name(&self) -> String {
        self.0.wanted.name.clone()
    }

    fn features(&self) -> u64 {
        self.0.offered
    }

    fn queue_sizes(&self) -> Vec<u16> {
        self.0.wanted.queue_sizes.clone()
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        read_bytes(&lock(&self.0.config), offset, data);
    }

    fn activate(&self, driver: Activation) -> io::Result<Box<dyn Active>> {
        Ok(Box::new(Kept::start(&self.0, driver)?))
    }
}

#[cfg(test)]
#[path = "vhost_user_test.rs"]
mod tests;
