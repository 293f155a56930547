//! A socket device (virtio 1.3 §5.10). Its host side are Unix sockets, as Firecracker and Cloud Hypervisor have it, or the
//! kernel's own ([`VhostVsock`]), of which nothing of the following is true.
//!
//! ```text
//! host connects to SOCKET, says `CONNECT 52`  ->  the guest's port 52          host is told `OK 1073741824`
//! guest connects to port 52 of CID 2          ->  SOCKET_52, if somebody listens there
//! ```
//!
//! One thread ([`server`]) moves packets between the queues and the [`bridge`], which has a table of [`connection`]s. What a
//! slow reader of the host does not take is kept up to what [`credit`] allows; what a slow reader of the guest does not take
//! stays in the host's socket. Connections take turns, so none waits for another. Nothing that the guest sends makes more
//! than [`bridge::MOST`] connections, or is kept without a bound.

mod bridge;
mod connection;
mod credit;
mod greeting;
mod packet;
mod server;
mod vhost;

use std::borrow::Borrow;
use std::io;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;

use super::worker::OneThread;
use super::{Activation, Active, DeviceType, RING_FEATURES, VirtioDevice, read_bytes};
use bridge::{Bridge, HostPorts};
use server::Server;
pub use vhost::{VhostVsock, VhostVsockError};

/// A communication controller of another kind.
const VSOCK: DeviceType = DeviceType { id: 19, pci_class: 0x07_8000 };
const QUEUE_SIZES: [u16; 3] = [256, 256, 16];
/// Streams, and no other kind of sockets (§5.10.3).
const STREAMS: u64 = 1 << 0;

/// A socket device.
#[derive(Debug)]
pub struct Vsock<L> {
    cid: u32,
    listener: L,
    path: PathBuf,
    host_ports: Arc<HostPorts>,
}

impl<L: Borrow<UnixListener>> Vsock<L> {
    /// The device of the guest `cid`. Clients of the host connect to `listener`; what the guest's connections lead to is
    /// `path`, an underscore and the port.
    pub fn new(cid: u32, listener: L, path: PathBuf) -> Self {
        Self { cid, listener, path, host_ports: Arc::default() }
    }
}

impl<L: Borrow<UnixListener> + Send + Sync> VirtioDevice for Vsock<L> {
    fn kind(&self) -> DeviceType {
        VSOCK
    }

    fn name(&self) -> String {
        format!("vsock {}", self.cid)
    }

    fn features(&self) -> u64 {
        RING_FEATURES | STREAMS
    }

    fn queue_sizes(&self) -> Vec<u16> {
        QUEUE_SIZES.to_vec()
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        read_bytes(&u64::from(self.cid).to_le_bytes(), offset, data);
    }

    fn activate(&self, driver: Activation) -> io::Result<Box<dyn Active>> {
        let listener = self.listener.borrow().try_clone()?;
        let bridge = Bridge::new(self.cid.into(), listener, &self.path, self.host_ports.clone())?;
        Ok(Box::new(OneThread::start(Server::new(bridge, driver.notifier), driver.queues)?))
    }
}

#[cfg(test)]
#[path = "vsock_test.rs"]
mod tests;
