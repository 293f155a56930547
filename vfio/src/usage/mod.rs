//! What the host would lose with a device: file systems, its network, its console. Read from sysfs and /proc only;
//! nothing is opened but, where asked for, block devices for an instant ([`claimed`]).

mod display;
mod network;
mod storage;

use std::fmt;
use std::path::Path;

use crate::holders::OpenNodes;
use crate::sysfs::{Host, HostDevice};
use crate::text;

pub(crate) use storage::claimed;

/// Base class of bridges.
const BRIDGE: u32 = 0x06;

/// A way in which the host uses a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Use {
    /// A file system on it is mounted.
    Mounted {
        /// Block device.
        device: String,
        /// Mount point.
        on: String,
    },
    /// It is swapped to.
    Swap {
        /// Block device.
        device: String,
    },
    /// Another block device or file system is made of it.
    PartOf {
        /// Block device.
        device: String,
        /// What is made of it.
        whole: String,
    },
    /// The kernel has it for itself, in a way it does not tell.
    Claimed {
        /// Block device.
        device: String,
    },
    /// Processes have it open.
    Open {
        /// Device node.
        node: String,
        /// Who.
        by: String,
    },
    /// Traffic that has no better way takes this interface.
    DefaultRoute {
        /// Network interface.
        interface: String,
    },
    /// The session in which we run arrived through this interface.
    Session {
        /// Network interface.
        interface: String,
        /// Where from.
        peer: String,
    },
    /// The console is on it, and there is no other display.
    Console,
    /// It is a host, ISA or other bridge that belongs to the board.
    Board,
    /// Its virtual functions are enabled, and would go with its driver.
    VirtualFunctions(u32),
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mounted { device, on } => write!(f, "{device} is mounted on {on}"),
            Self::Swap { device } => write!(f, "{device} is swap space"),
            Self::PartOf { device, whole } => write!(f, "{device} is part of {whole}"),
            Self::Claimed { device } => write!(f, "the kernel uses {device}"),
            Self::Open { node, by } => write!(f, "{node} is open in {by}"),
            Self::DefaultRoute { interface } => write!(f, "{interface} carries the default route"),
            Self::Session { interface, peer } => {
                write!(f, "{interface} carries this ssh session, from {peer}")
            }
            Self::Console => f.write_str("it is the only display of the console"),
            Self::Board => f.write_str("it is a bridge of the board"),
            Self::VirtualFunctions(count) => write!(f, "{count} virtual functions of it are enabled"),
        }
    }
}

impl Host {
    /// How the host uses a device at the moment; empty if it does not, as far as can be seen.
    pub fn uses(&self, device: &HostDevice, open: &OpenNodes) -> Vec<Use> {
        let mut uses = storage::uses(self, device.address, open);
        uses.extend(network::uses(self, device.address));
        uses.extend(display::uses(self, device, open));
        if device.class >> 16 == BRIDGE && !device.is_bridge() {
            uses.push(Use::Board);
        }
        let enabled = text::read_or_empty(&self.device_path(device.address).join("sriov_numvfs"));
        uses.extend(enabled.trim().parse().ok().filter(|count| *count > 0).map(Use::VirtualFunctions));
        uses
    }
}

/// Who has a node open.
fn opened(host: &Host, node: &Path, open: &OpenNodes) -> Option<Use> {
    let by = open.of(node)?;
    let node = Path::new("/dev").join(node.strip_prefix(&host.dev).unwrap_or(node));
    Some(Use::Open { node: node.display().to_string(), by })
}

#[cfg(test)]
#[path = "usage_test.rs"]
mod tests;
