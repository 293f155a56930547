//! The control queue (virtio 1.3 §5.1.6.5): what a driver wants changed while the card works.
//!
//! Filters are not kept: the tap gives a card whatever the host sends its way, and a driver has to be ready for more than
//! it asked for (§5.1.6.5.1.2, §5.1.6.5.2.2).

use std::io::{Read, Write};
use std::sync::Arc;

use virtio_bindings::virtio_net::*;

use super::{Card, features};
use crate::virtio::{Chain, RingError};

/// Most bytes of a command that are looked at: all that mean something are shorter.
const MOST: u64 = 64;

/// What a command asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    /// Something that is done by doing nothing.
    Nothing,
    /// Another MAC address.
    Mac([u8; 6]),
    /// So many pairs of queues.
    Pairs(u16),
    /// Frames may be so, as in the features.
    Offloads(u64),
}

/// Carries a command out, of a driver that accepted `accepted`; gives the bytes of the answer.
pub(super) fn answer(card: &Arc<Card>, accepted: u64, chain: &Chain) -> Result<u32, RingError> {
    let mut command = Vec::new();
    chain.reader().take(MOST).read_to_end(&mut command).map_err(RingError::Access)?;
    let done = match parse(&command).filter(|command| is_allowed(*command, accepted)) {
        None => false,
        Some(Command::Nothing) => true,
        Some(Command::Mac(mac)) => {
            card.set_mac(mac);
            true
        }
        Some(Command::Pairs(pairs)) => card.use_pairs(pairs.into()),
        Some(Command::Offloads(offloads)) => card.set_offloads(offloads),
    };
    let status = if done { VIRTIO_NET_OK } else { VIRTIO_NET_ERR } as u8;
    let mut writer = chain.writer();
    writer.write_all(&[status]).map_err(|_| RingError::Request("command"))?;
    Ok(writer.written())
}

fn parse(command: &[u8]) -> Option<Command> {
    let (class, kind, data) = match command {
        [class, kind, data @ ..] => (u32::from(*class), u32::from(*kind), data),
        _ => return None,
    };
    match (class, kind) {
        (VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC..=VIRTIO_NET_CTRL_RX_NOBCAST) => {
            data.first().map(|_| Command::Nothing)
        }
        (VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET) => Some(Command::Nothing),
        (VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET) => data.first_chunk().copied().map(Command::Mac),
        (VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET) => {
            data.first_chunk().map(|pairs| Command::Pairs(u16::from_le_bytes(*pairs)))
        }
        (VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET) => {
            data.first_chunk().map(|offloads| Command::Offloads(u64::from_le_bytes(*offloads)))
        }
        _ => None,
    }
}

/// Whether the driver has accepted what a command is part of. It can only set offloads that it has accepted.
fn is_allowed(command: Command, accepted: u64) -> bool {
    match command {
        Command::Nothing => true,
        Command::Mac(_) => features::has(accepted, VIRTIO_NET_F_CTRL_MAC_ADDR),
        Command::Pairs(_) => features::has(accepted, VIRTIO_NET_F_MQ),
        Command::Offloads(offloads) => {
            let settable = accepted & features::settable();
            features::has(accepted, VIRTIO_NET_F_CTRL_GUEST_OFFLOADS) && offloads & !settable == 0
        }
    }
}
