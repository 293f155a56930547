//! What a card offers (virtio 1.3 §5.1.3), and what an accepted offer means for the frames it is given. Pure.

use virtio_bindings::virtio_net::*;

use crate::tap::Offloads;
use crate::virtio::RING_FEATURES;

/// Frames that a driver may send: the kernel takes all of these from whoever writes to a tap.
pub(super) const SENT: &[u32] = &[
    VIRTIO_NET_F_CSUM,
    VIRTIO_NET_F_HOST_TSO4,
    VIRTIO_NET_F_HOST_TSO6,
    VIRTIO_NET_F_HOST_ECN,
    VIRTIO_NET_F_HOST_UFO,
];
/// Frames that a driver may be given.
pub(super) const RECEIVED: &[u32] = &[
    VIRTIO_NET_F_GUEST_CSUM,
    VIRTIO_NET_F_GUEST_TSO4,
    VIRTIO_NET_F_GUEST_TSO6,
    VIRTIO_NET_F_GUEST_ECN,
    VIRTIO_NET_F_GUEST_UFO,
];
/// Both, for datagrams that are cut into datagrams.
const USO: &[u32] = &[VIRTIO_NET_F_HOST_USO, VIRTIO_NET_F_GUEST_USO4, VIRTIO_NET_F_GUEST_USO6];
/// The rest of a card.
const CARD: &[u32] = &[
    VIRTIO_NET_F_MTU,
    VIRTIO_NET_F_MAC,
    VIRTIO_NET_F_STATUS,
    VIRTIO_NET_F_MRG_RXBUF,
    VIRTIO_NET_F_CTRL_VQ,
    VIRTIO_NET_F_CTRL_RX,
    VIRTIO_NET_F_CTRL_RX_EXTRA,
    VIRTIO_NET_F_CTRL_MAC_ADDR,
];

pub(super) fn bits(all: &[u32]) -> u64 {
    all.iter().fold(0, |bits, bit| bits | 1 << bit)
}

/// Whether a feature is among those accepted.
pub(super) fn has(features: u64, bit: u32) -> bool {
    features >> bit & 1 != 0
}

/// What a card with so many pairs of queues offers.
pub(super) fn offered(pairs: usize, offloads: bool, uso: bool) -> u64 {
    let mut offered = RING_FEATURES | bits(CARD);
    if offloads {
        offered |= bits(SENT) | bits(RECEIVED) | 1 << VIRTIO_NET_F_CTRL_GUEST_OFFLOADS;
        if uso {
            offered |= bits(USO);
        }
    }
    if pairs > 1 {
        offered |= 1 << VIRTIO_NET_F_MQ;
    }
    offered
}

/// What the driver takes, of accepted features or of what it sets as guest offloads (§5.1.6.5.6), which have the same bits.
pub(super) fn offloads(features: u64) -> Offloads {
    Offloads {
        checksum: has(features, VIRTIO_NET_F_GUEST_CSUM),
        tso4: has(features, VIRTIO_NET_F_GUEST_TSO4),
        tso6: has(features, VIRTIO_NET_F_GUEST_TSO6),
        ecn: has(features, VIRTIO_NET_F_GUEST_ECN),
        ufo: has(features, VIRTIO_NET_F_GUEST_UFO),
        // The kernel has both or none.
        uso: has(features, VIRTIO_NET_F_GUEST_USO4) && has(features, VIRTIO_NET_F_GUEST_USO6),
    }
}

/// The features that can be set as guest offloads.
pub(super) fn settable() -> u64 {
    bits(RECEIVED) | 1 << VIRTIO_NET_F_GUEST_USO4 | 1 << VIRTIO_NET_F_GUEST_USO6
}

/// Whether frames larger than the MTU may come.
pub(super) fn takes_large(features: u64) -> bool {
    features & settable() & !(1 << VIRTIO_NET_F_GUEST_CSUM) & !(1 << VIRTIO_NET_F_GUEST_ECN) != 0
}

/// The number of the control queue, of a card with so many pairs (§5.1.2): drivers that do not know of pairs see it after the
/// first one.
pub(super) fn control_queue(features: u64, pairs: usize) -> u16 {
    let pairs = if has(features, VIRTIO_NET_F_MQ) { pairs } else { 1 };
    u16::try_from(pairs * 2).unwrap_or(u16::MAX)
}
