//! A console device (virtio 1.3 §5.3): ports that carry bytes between the guest and files, pseudo-terminals and sockets of the
//! host. A port without a name is a console of the guest's (hvc0), one with a name is for a program that looks for that.
//!
//! ```text
//! guest -> port's transmit queue -> End -> file, terminal, client of a socket            end.rs
//! guest <- port's receive queue  <- End <-
//! guest <-> control queues: which ports there are, which are open, how large a terminal is       control.rs
//! ```
//!
//! One thread ([`server`]) moves what can be moved, and waits for nothing. A reader who does not read costs the guest nothing: of
//! what it prints on a console the last is kept, and the rest is lost, since Linux waits for each byte of a console with
//! interrupts off (`__send_to_port` in drivers/char/virtio_console.c). What it sends to a port with a name waits in the guest's queue as
//! long as somebody is connected there. What the host sends waits in the host until the guest has room.

mod control;
mod end;
mod port;
mod server;

use std::any::Any;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use super::worker::OneThread;
use super::{Activation, Active, DeviceType, RING_FEATURES, VirtioDevice, read_bytes};
pub use end::Backend;
use end::Ends;
use server::Server;

/// A communication controller of another kind.
const CONSOLE: DeviceType = DeviceType { id: 3, pci_class: 0x07_8000 };
const QUEUE_SIZE: u16 = 128;
/// The terminal's size is in the configuration (§5.3.3).
const SIZE: u64 = 1 << 0;
/// There are several ports, and queues to talk of them.
const MULTIPORT: u64 = 1 << 1;
/// Ports that a device may have.
pub const MOST_PORTS: usize = 16;
/// Bytes of a name.
pub const LONGEST_NAME: usize = 63;

/// A port, and where it leads to.
pub struct PortOptions {
    /// What programs of the guest find it by. Without, it is a console.
    pub name: Option<String>,
    /// The host's end of it.
    pub backend: Backend,
    /// Dropped with the device: what the host's end needs in order to be there.
    pub kept: Box<dyn Any + Send + Sync>,
}

/// A console device.
pub struct Console {
    names: Vec<Option<String>>,
    ends: Arc<Mutex<Ends>>,
    size: Arc<TerminalSize>,
    _kept: Vec<Box<dyn Any + Send + Sync>>,
}

/// Columns and rows of the first port's terminal, as far as the driver is told.
#[derive(Default)]
struct TerminalSize(AtomicU32);

impl TerminalSize {
    fn set(&self, columns: u16, rows: u16) {
        self.0.store(u32::from(rows) << 16 | u32::from(columns), Ordering::Release);
    }

    /// As in the configuration.
    fn bytes(&self) -> [u8; 4] {
        self.0.load(Ordering::Acquire).to_le_bytes()
    }
}

impl Console {
    /// A device with these ports, [`MOST_PORTS`] at the most.
    ///
    /// # Errors
    /// The host has no more descriptors.
    pub fn new(ports: Vec<PortOptions>) -> io::Result<Self> {
        let (mut names, mut backends, mut kept) = (Vec::new(), Vec::new(), Vec::new());
        for PortOptions { name, backend, kept: keep } in ports.into_iter().take(MOST_PORTS) {
            backends.push((backend, name.is_none()));
            names.push(name);
            kept.push(keep);
        }
        let ends = Arc::new(Mutex::new(Ends::new(backends)?));
        Ok(Self { names, ends, size: Arc::default(), _kept: kept })
    }
}

impl VirtioDevice for Console {
    fn kind(&self) -> DeviceType {
        CONSOLE
    }

    fn name(&self) -> String {
        "virtio console".to_owned()
    }

    fn features(&self) -> u64 {
        RING_FEATURES | SIZE | MULTIPORT
    }

    fn queue_sizes(&self) -> Vec<u16> {
        // Two a port, and two to talk of them.
        vec![QUEUE_SIZE; 2 * self.names.len() + 2]
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let ports = u32::try_from(self.names.len()).unwrap_or(u32::MAX).to_le_bytes();
        read_bytes(&[self.size.bytes(), ports].concat(), offset, data);
    }

    fn activate(&self, driver: Activation) -> io::Result<Box<dyn Active>> {
        let multiport = driver.features & MULTIPORT != 0;
        let server =
            Server::new(&self.names, multiport, self.ends.clone(), self.size.clone(), driver.notifier);
        Ok(Box::new(OneThread::start(server, driver.queues)?))
    }
}

#[cfg(test)]
#[path = "console_test.rs"]
mod tests;
