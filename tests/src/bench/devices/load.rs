//! What is asked of a device.

use serde::Serialize;

use super::contender::Contender;

/// Where the host listens.
pub(super) const PORT: u16 = 7000;
/// How often each load is asked for of one guest, in turns with the other's.
pub(super) const TURNS: u32 = 4;

/// The device that serves it, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Device {
    /// A raw image past the host's page cache: a thread of vmm's, an iothread of QEMU's, both on io_uring.
    Disk,
    /// A card that the host's kernel serves.
    VhostNet,
    /// A card that the monitor serves.
    Net,
}

/// One load on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) name: &'static str,
    /// What one of them is in the table.
    pub(super) unit: &'static str,
    /// For the program `requests`.
    arguments: &'static str,
}

const DISK: &[Load] = &[
    Load::new("4 KiB read at random, depth 1", "request", "disk /dev/vda read random 4096 1 400"),
    Load::new("4 KiB read at random, depth 32", "request", "disk /dev/vda read random 4096 32 3200"),
    Load::new("4 KiB written at random, depth 1", "request", "disk /dev/vda write random 4096 1 400"),
    Load::new("4 KiB written at random, depth 32", "request", "disk /dev/vda write random 4096 32 3200"),
    Load::new("1 MiB read in sequence, depth 4", "request", "disk /dev/vda read sequential 1048576 4 24"),
    Load::new("1 MiB written in sequence, depth 4", "request", "disk /dev/vda write sequential 1048576 4 24"),
];

const NET: &[Load] = &[
    Load::new("TCP out of the guest", "MiB", "bulk HOST PORT out 24"),
    Load::new("TCP into the guest", "MiB", "bulk HOST PORT in 24"),
    Load::new("packets of 64 bytes out", "packet", "packets HOST PORT out 32 9600"),
    Load::new("packets of 64 bytes in", "packet", "packets HOST PORT in 32 9600"),
    Load::new("a packet of 64 bytes out and one in", "exchange", "packets HOST PORT out 1 600"),
];

impl Device {
    pub(super) const ALL: [Device; 3] = [Device::Disk, Device::VhostNet, Device::Net];

    pub(super) fn name(self) -> &'static str {
        match self {
            Device::Disk => "disk",
            Device::VhostNet => "vhost-net",
            Device::Net => "net",
        }
    }

    pub(super) fn loads(self) -> &'static [Load] {
        match self {
            Device::Disk => DISK,
            Device::VhostNet | Device::Net => NET,
        }
    }

    /// All that the guest of a contender does: before and after each load it waits for a line, so that nothing runs but the load.
    pub(super) fn script(self, of: Contender) -> String {
        let mut script = match self {
            Device::Disk => "until [ -b /dev/vda ]; do sleep 0.01; done\n".to_owned(),
            Device::VhostNet | Device::Net => "until [ -d /sys/class/net/eth0 ]; do sleep 0.01; done\n\
                 ip link set lo up; ip addr add NETWORK.2/24 dev eth0; ip link set eth0 up\n\
                 until ping -c 1 -W 1 HOST > /dev/null; do :; done\n"
                .to_owned(),
        };
        for load in self.loads() {
            for _ in 0..TURNS {
                let request = load.arguments;
                script.push_str(&format!("echo {READY}; read go; requests {request} || echo {FAILED}\n"));
            }
        }
        script.push_str(&format!("echo {READY}; read go; poweroff -f"));
        script.replace("HOST", &of.host()).replace("NETWORK", of.network()).replace("PORT", &PORT.to_string())
    }
}

/// What the guest says before each load, and after one that failed.
pub(super) const READY: &str = "ready-for-a-load";
pub(super) const FAILED: &str = "the-load-failed";

impl Load {
    const fn new(name: &'static str, unit: &'static str, arguments: &'static str) -> Load {
        Load { name, unit, arguments }
    }
}
