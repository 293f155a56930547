//! `--net`: network cards of the guest, each on a tap of the host.

use std::fmt::{self, Display};
use std::path::PathBuf;
use std::str::FromStr;

use devices::tap::HandedTap;
use devices::virtio::net::{MacAddress, NetLimits, NoMacAddress};
use miette::Diagnostic;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use vmm::virtio::net::{NetServer, NetSpec, TapSource};
use vmm::virtio::served::ServedNet;
use vmm::{Class, Problems};

use super::rate::RateLimits;
use crate::grammar::types::{Word, words};

/// A network card.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct NetCard {
    /// The tap that its frames go to.
    #[schemars(extend("x-value" = "NAME"))]
    pub(crate) tap: Option<String>,
    /// Make the tap if there is none. It goes when the machine ends.
    pub(crate) create: bool,
    /// The tap's queues, opened by whoever starts vmm, instead of its name: `fd=5`, or `fd=[5,6]` for two.
    pub(crate) fd: Vec<u32>,
    /// Its MAC address. Made up from the host and the tap, the same each time, if nothing is said.
    pub(crate) mac: Option<Mac>,
    /// Its MTU, which the tap is set to. The tap's, if nothing is said.
    pub(crate) mtu: Option<u16>,
    /// How many pairs of queues it has. One for each vCPU, up to 8, if the tap was made with `multi_queue`.
    pub(crate) queues: Option<u16>,
    /// Leave checksums and segmentation to whoever receives a frame in the end.
    pub(crate) offloads: bool,
    /// Have the kernel serve its queues (vhost-net): insist on it, or do without it (`off`). If nothing is said it does where
    /// there is a /dev/vhost-net.
    pub(crate) vhost: Option<bool>,
    /// Offer packed rings besides split ones. vmm serves the queues then: the kernel's vhost-net knows split rings alone.
    pub(crate) packed: bool,
    /// How much the guest may receive. vmm serves the queues then, as with `tx-rate`.
    pub(crate) rx_rate: RateLimits,
    /// How much the guest may send.
    pub(crate) tx_rate: RateLimits,
    /// Instead of a tap, the Unix socket of a vhost-user daemon that serves the card. Goes with `mac` and `mtu`.
    #[schemars(extend("x-value" = "PATH"))]
    pub(crate) vhost_user: Option<PathBuf>,
}

impl Default for NetCard {
    fn default() -> Self {
        Self {
            tap: None,
            create: false,
            fd: Vec::new(),
            mac: None,
            mtu: None,
            queues: None,
            offloads: true,
            vhost: None,
            packed: false,
            rx_rate: RateLimits::default(),
            tx_rate: RateLimits::default(),
            vhost_user: None,
        }
    }
}

/// A MAC address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mac(pub(crate) MacAddress);

impl FromStr for Mac {
    type Err = NoMacAddress;

    fn from_str(text: &str) -> Result<Self, NoMacAddress> {
        text.parse().map(Self)
    }
}

impl Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Word for Mac {
    const EXPECTED: &'static str =
        "the MAC address of a card: six bytes, the first of them even, as in 02:00:5e:10:00:01";
}

words! {
    Mac: "MAC" { "type": "string", "pattern": "^([0-9a-fA-F]{2}[:-]){5}[0-9a-fA-F]{2}$" };
}

/// Options that make no sense together.
#[derive(Debug, Error, Diagnostic, PartialEq, Eq)]
enum NetError {
    #[error("--net does not say which tap")]
    #[diagnostic(help("give its name, as in --net tap0, or its descriptor, as in --net fd=5"))]
    NoTap,
    #[error("--net tap={0} names a tap twice: by its descriptor as well")]
    #[diagnostic(help("a descriptor is of one tap already: give either"))]
    Both(String),
    #[error("--net fd={0} goes with neither `create` nor `queues`")]
    #[diagnostic(help("a descriptor is a queue of a tap that there is: give one for each queue"))]
    Settled(u32),
    #[error("--net {0}: `{1}` does not go with `vhost`")]
    #[diagnostic(help(
        "the kernel's vhost-net knows split rings alone, and no limits: leave one of them out"
    ))]
    NotByKernel(String, &'static str),
    #[error("--net vhost-user={} goes with `mac` and `mtu` alone", .0.display())]
    #[diagnostic(help("there is no tap, and all else is for the daemon to say"))]
    Daemons(PathBuf),
    #[error("--net: file descriptor {0} is given twice")]
    #[diagnostic(help("each queue has a descriptor of its own"))]
    Twice(u32),
}

impl NetCard {
    /// What it means if a daemon serves it; what makes no sense is reported.
    pub(super) fn served(&self, problems: &mut Problems) -> Option<ServedNet> {
        let socket = self.vhost_user.clone()?;
        let (mac, mtu) = (self.mac, self.mtu);
        let alone = Self { vhost_user: Some(socket.clone()), mac, mtu, ..Self::default() };
        if *self != alone {
            problems.add(Class::Usage, NetError::Daemons(socket));
            return None;
        }
        Some(ServedNet { socket, mac: mac.map(|Mac(mac)| mac), mtu })
    }

    /// What it means if it has a tap; what makes no sense is reported. Takes over the descriptors that are named, which are none of `taken`.
    pub(super) fn spec(&self, taken: &mut Vec<u32>, problems: &mut Problems) -> Option<NetSpec> {
        if self.vhost_user.is_some() {
            return None;
        }
        let tap = match (&self.tap, self.fd.first()) {
            (None, None) => problems.keep(Class::Usage, Err(NetError::NoTap)),
            (Some(tap), Some(_)) => problems.keep(Class::Usage, Err(NetError::Both(tap.clone()))),
            (Some(name), None) => Some(TapSource::Named { name: name.clone(), create: self.create }),
            (None, Some(first)) if self.create || self.queues.is_some() => {
                problems.keep(Class::Usage, Err(NetError::Settled(*first)))
            }
            (None, Some(_)) => {
                let fresh = self.fd.iter().try_for_each(|fd| {
                    let twice = taken.contains(fd);
                    taken.push(*fd);
                    if twice { Err(NetError::Twice(*fd)) } else { Ok(()) }
                });
                problems
                    .keep(Class::Usage, fresh)
                    .and_then(|()| problems.keep(Class::Usage, HandedTap::take(&self.fd)))
                    .map(TapSource::Handed)
            }
        }?;
        let received = self.rx_rate.limits("--net rx-rate", problems);
        let limits = NetLimits { received, sent: self.tx_rate.limits("--net tx-rate", problems) };
        let ours = [
            (self.packed, "packed"),
            (!limits.received.is_none(), "rx-rate"),
            (!limits.sent.is_none(), "tx-rate"),
        ];
        let server = match (self.vhost, ours.iter().find(|(asked, _)| *asked)) {
            (Some(true), Some((_, what))) => {
                problems.keep(Class::Usage, Err(NetError::NotByKernel(tap.name().to_owned(), what)))?
            }
            (Some(true), None) => NetServer::Kernel,
            (None, None) => NetServer::Usual,
            (Some(false), _) | (None, Some(_)) => NetServer::Us { packed: self.packed, limits },
        };
        let mac = self.mac.map(|Mac(mac)| mac);
        Some(NetSpec {
            id: None,
            tap,
            mac,
            mtu: self.mtu,
            queues: self.queues,
            offloads: self.offloads,
            server,
        })
    }
}

#[cfg(test)]
#[path = "net_test.rs"]
mod tests;
