//! Disks and network cards that vhost-user daemons serve.

use std::path::PathBuf;

use devices::tap::{LEAST_MTU, MOST_MTU};
use devices::virtio::blk::{self, MOST_QUEUES};
use devices::virtio::net::{self, MacAddress};
use devices::virtio::vhost_user::{VhostUser, Wanted};
use miette::Diagnostic;
use thiserror::Error;

use super::VirtioSpec;
use super::net::make_up;
use crate::problem::{Class, Problems};

/// A disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedDisk {
    /// Where its daemon listens.
    pub socket: PathBuf,
    /// Its queues.
    pub queues: u16,
}

/// A network card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedNet {
    /// Where its daemon listens.
    pub socket: PathBuf,
    /// Its MAC address. `None`: one that is made up from the host and the socket, the same each time.
    pub mac: Option<MacAddress>,
    /// Its MTU, if the guest is told.
    pub mtu: Option<u16>,
}

/// A device that makes no sense on any host.
#[derive(Debug, Error, Diagnostic, PartialEq, Eq)]
pub enum ServedSpecError {
    /// No queue, or too many.
    #[error("--disk vhost-user={}: a disk cannot have {queues} queues, but 1 to {MOST_QUEUES}", socket.display())]
    #[diagnostic(help("leave `queues` out, or give as many as the daemon serves"))]
    Queues {
        /// Its socket.
        socket: PathBuf,
        /// What was asked for.
        queues: u16,
    },
    /// A size no frame has.
    #[error("--net vhost-user={}: an MTU of {mtu} is not {LEAST_MTU} to {MOST_MTU}", socket.display())]
    #[diagnostic(help("give 1500, or leave `mtu` out"))]
    Mtu {
        /// Its socket.
        socket: PathBuf,
        /// What was asked for.
        mtu: u16,
    },
    /// One daemon for two devices.
    #[error("the socket {} is given twice", .0.display())]
    #[diagnostic(help("a vhost-user daemon serves one device: start another, at a socket of its own"))]
    Twice(PathBuf),
}

/// What is wrong with them whatever the host.
pub(super) fn validate(spec: &VirtioSpec, problems: &mut Problems) {
    let mut errors = Vec::new();
    for ServedDisk { socket, queues } in &spec.served_disks {
        if !(1..=MOST_QUEUES).contains(queues) {
            errors.push(ServedSpecError::Queues { socket: socket.clone(), queues: *queues });
        }
    }
    for ServedNet { socket, mtu, .. } in &spec.served_nets {
        let odd = mtu.filter(|mtu| !(LEAST_MTU..=MOST_MTU).contains(mtu));
        errors.extend(odd.map(|mtu| ServedSpecError::Mtu { socket: socket.clone(), mtu }));
    }
    let sockets = sockets(spec);
    let again =
        |(index, socket): (usize, &&PathBuf)| sockets.iter().take(index).any(|before| before == socket);
    let twice = sockets.iter().enumerate().filter(|item| again(*item)).map(|(_, socket)| (*socket).clone());
    errors.extend(twice.map(ServedSpecError::Twice));
    errors.into_iter().for_each(|error| problems.add(Class::Usage, error));
}

fn sockets(spec: &VirtioSpec) -> Vec<&PathBuf> {
    let disks = spec.served_disks.iter().map(|disk| &disk.socket);
    let nets = spec.served_nets.iter().map(|net| &net.socket);
    disks.chain(nets).chain(spec.shares.iter().map(|share| &share.socket)).collect()
}

impl ServedDisk {
    /// What it is to be.
    pub(super) fn wanted(&self) -> Wanted {
        blk::served(self.socket.clone(), self.queues.clamp(1, MOST_QUEUES))
    }
}

impl ServedNet {
    /// What it is to be.
    pub(super) fn wanted(&self) -> Wanted {
        let mac = self.mac.unwrap_or_else(|| make_up(&self.socket.to_string_lossy()));
        net::served(self.socket.clone(), mac, self.mtu)
    }
}

/// Connects to the daemons of all that are `wanted`, each of which serves one device. What is wrong is reported.
pub(super) fn connect(wanted: impl IntoIterator<Item = Wanted>, problems: &mut Problems) -> Vec<VhostUser> {
    let connect = |wanted| problems.keep(Class::Host, VhostUser::connect(wanted));
    wanted.into_iter().filter_map(connect).collect()
}

#[cfg(test)]
#[path = "served_test.rs"]
mod tests;
