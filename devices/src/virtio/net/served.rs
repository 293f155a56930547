//! A network card that a vhost-user daemon serves, such as a switch: one pair of queues. Address, MTU and the link's state
//! are ours to say, for the protocol has no word for them.

use std::path::PathBuf;

use virtio_bindings::virtio_net::*;

use super::features::{RECEIVED, SENT, bits};
use super::{MacAddress, NET, QUEUE_SIZE};
use crate::virtio::vhost_user::{Config, PATIENCE, Wanted};

/// What a card that the daemon at `socket` serves is like.
pub fn wanted(socket: PathBuf, mac: MacAddress, mtu: Option<u16>) -> Wanted {
    let MacAddress(address) = mac;
    let mut config = address.to_vec();
    config.extend((VIRTIO_NET_S_LINK_UP as u16).to_le_bytes());
    // One pair of queues.
    config.extend(1_u16.to_le_bytes());
    config.extend(mtu.unwrap_or_default().to_le_bytes());
    let own = bits(&[VIRTIO_NET_F_MAC, VIRTIO_NET_F_STATUS]);
    let file = socket.file_name().unwrap_or(socket.as_os_str()).display();
    Wanted {
        name: format!("network card at {file}"),
        device: NET,
        features: bits(SENT) | bits(RECEIVED) | bits(&[VIRTIO_NET_F_MRG_RXBUF]),
        ours: mtu.map_or(own, |_| own | bits(&[VIRTIO_NET_F_MTU])),
        queue_sizes: vec![QUEUE_SIZE; 2],
        config: Config::Ours(config),
        patience: PATIENCE,
        socket,
    }
}

#[cfg(test)]
#[path = "served_test.rs"]
mod tests;
