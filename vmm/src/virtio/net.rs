//! Network cards that are asked for, and their taps.

use std::fs;

use devices::tap::Link;
use devices::tap::{HandedTap, LEAST_MTU, MOST_MTU, Tap, TapError, TapOptions};
use devices::virtio::net::{MacAddress, Net, NetLimits, ServedBy, Vhost};
use miette::Diagnostic;
use thiserror::Error;

use crate::problem::{Class, Problems};

/// Pairs of queues of a card that does not say, at most.
const USUAL_PAIRS: u16 = 8;
/// Pairs of queues a card can have: each is a thread and two interrupts.
const MOST_PAIRS: u16 = 64;

/// A network card.
#[derive(Clone, Debug)]
pub struct NetSpec {
    /// What it is called. `None`: its number has a name.
    pub id: Option<String>,
    /// Where its frames go.
    pub tap: TapSource,
    /// Its MAC address. `None`: one that is made up from the host and the tap, the same each time.
    pub mac: Option<MacAddress>,
    /// Its MTU, which the tap is set to. `None`: that of the tap.
    pub mtu: Option<u16>,
    /// Its pairs of queues. `None`: one for each vCPU, up to eight, if the tap can have several.
    pub queues: Option<u16>,
    /// Whether checksums and segmentation are left to the receiver, or to hardware.
    pub offloads: bool,
    /// Who serves its queues.
    pub server: NetServer,
}

impl NetSpec {
    /// What it is called as the card with this number.
    pub(crate) fn name(&self, number: usize) -> String {
        self.id.clone().unwrap_or_else(|| id(number))
    }
}

/// What the network card with this number is called that has no name of its own.
pub(crate) fn id(number: usize) -> String {
    format!("_net{number}")
}

/// Who is to serve the queues of a network card.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NetServer {
    /// The kernel if it can, or else we do.
    #[default]
    Usual,
    /// The kernel.
    Kernel,
    /// We do.
    Us {
        /// Whether packed rings are offered besides split ones.
        packed: bool,
        /// How much the guest may receive and send.
        limits: NetLimits,
    },
}

/// A tap.
#[derive(Clone, Debug)]
pub enum TapSource {
    /// One of the host's.
    Named {
        /// Its name.
        name: String,
        /// Make it if there is none.
        create: bool,
    },
    /// One whose queues were opened by whoever started us.
    Handed(HandedTap),
}

impl TapSource {
    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Self::Named { name, .. } => name,
            Self::Handed(tap) => tap.name(),
        }
    }
}

/// A network card that makes no sense on any host.
#[derive(Debug, Error, Diagnostic, PartialEq, Eq)]
pub enum NetSpecError {
    /// A size no frame has.
    #[error("--net: an MTU of {0} is not {LEAST_MTU} to {MOST_MTU}")]
    #[diagnostic(help("give 1500, or leave `mtu` out, which is then the tap's"))]
    Mtu(u16),
    /// No queue, or too many.
    #[error("--net: a card cannot have {0} queues, but 1 to {MOST_PAIRS}")]
    #[diagnostic(help("leave `queues` out: one for each vCPU serves best"))]
    Queues(u16),
    /// One tap for two cards.
    #[error("--net: the tap {0} is given twice")]
    #[diagnostic(help("give each card a tap of its own, and connect these with a bridge"))]
    Twice(String),
    /// One address for two cards.
    #[error("--net: the MAC address {0} is given twice")]
    #[diagnostic(help("each card needs its own, or the network cannot tell them apart"))]
    SameMac(MacAddress),
}

/// What is wrong with cards whatever the host.
pub(super) fn validate(nets: &[NetSpec], problems: &mut Problems) {
    let errors = nets.iter().enumerate().flat_map(|(index, net)| check(net, before(nets, index)));
    errors.for_each(|error| problems.add(Class::Usage, error));
}

fn before(nets: &[NetSpec], index: usize) -> &[NetSpec] {
    nets.get(..index).unwrap_or_default()
}

/// Opens the taps of cards that make sense; what is wrong with them is reported.
pub(super) fn open(nets: &[NetSpec], cpus: u32, problems: &mut Problems) -> Vec<Net> {
    let mut opened = Vec::new();
    for (index, net) in nets.iter().enumerate() {
        if !check(net, before(nets, index)).is_empty() {
            continue;
        }
        match open_tap(net, cpus) {
            Ok(tap) => {
                let mac = net.mac.unwrap_or_else(|| make_up(net.tap.name()));
                let served_by = open_server(net, tap.queues().len(), problems);
                opened
                    .extend(served_by.map(|served_by| Net::new(Box::new(tap), mac, net.offloads, served_by)));
            }
            Err(error) => problems.add(class(&error), error),
        }
    }
    opened
}

fn open_tap(net: &NetSpec, cpus: u32) -> Result<Tap, TapError> {
    match &net.tap {
        TapSource::Handed(tap) => tap.open(net.mtu),
        TapSource::Named { name, create } => {
            let most_queues = u16::try_from(cpus).unwrap_or(USUAL_PAIRS).clamp(1, USUAL_PAIRS);
            let (name, create) = (name.clone(), *create);
            Tap::open(&TapOptions { name, create, queues: net.queues, most_queues, mtu: net.mtu })
        }
    }
}

fn open_server(net: &NetSpec, pairs: usize, problems: &mut Problems) -> Option<ServedBy> {
    match net.server {
        NetServer::Us { packed, limits } => Some(ServedBy::Us { packed, limits }),
        NetServer::Kernel => problems.keep(Class::Host, Vhost::open(pairs)).map(ServedBy::Kernel),
        NetServer::Usual => Some(Vhost::open(pairs).map(ServedBy::Kernel).unwrap_or_else(|error| {
            let tap = net.tap.name();
            tracing::warn!(tap, "{error}: vmm serves this network itself, which costs more CPU time");
            ServedBy::Us { packed: false, limits: NetLimits::default() }
        })),
    }
}

fn class(error: &TapError) -> Class {
    match error {
        TapError::Name(_) | TapError::Handed { .. } | TapError::Mixed { .. } => Class::Usage,
        _ => Class::Host,
    }
}

fn check(net: &NetSpec, before: &[NetSpec]) -> Vec<NetSpecError> {
    let mut errors = Vec::new();
    errors.extend(net.mtu.filter(|mtu| !(LEAST_MTU..=MOST_MTU).contains(mtu)).map(NetSpecError::Mtu));
    errors.extend(net.queues.filter(|queues| !(1..=MOST_PAIRS).contains(queues)).map(NetSpecError::Queues));
    let name = net.tap.name();
    if before.iter().any(|other| other.tap.name() == name) {
        errors.push(NetSpecError::Twice(name.to_owned()));
    }
    let same = net.mac.filter(|mac| before.iter().any(|other| other.mac == Some(*mac)));
    errors.extend(same.map(NetSpecError::SameMac));
    errors
}

/// An address for the card on this tap of this host.
pub(super) fn make_up(tap: &str) -> MacAddress {
    let read = |path: &str| fs::read_to_string(path).ok().filter(|text| !text.trim().is_empty());
    let host = read("/etc/machine-id").or_else(|| read("/proc/sys/kernel/hostname")).unwrap_or_default();
    MacAddress::made_up([host.trim(), tap])
}

#[cfg(test)]
#[path = "net_test.rs"]
mod tests;
