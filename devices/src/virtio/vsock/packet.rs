//! The header of a packet (virtio 1.3 §5.10.6, struct virtio_vsock_hdr).

use std::io::Read;

use super::super::Chain;

/// Bytes of a header.
pub(super) const SIZE: usize = 44;
/// The host's address, whoever the guest is (§5.10.4).
pub(super) const HOST_CID: u64 = 2;
/// The kind of sockets that there is: streams.
pub(super) const STREAM: u16 = 1;
/// Shutdown: whoever says so does not receive any more, or does not send.
pub(super) const NO_RECEIVE: u32 = 1;
pub(super) const NO_SEND: u32 = 2;

/// What a packet is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Request,
    Response,
    Reset,
    Shutdown,
    Data,
    CreditUpdate,
    CreditRequest,
    Unknown(u16),
}

impl From<u16> for Op {
    fn from(number: u16) -> Self {
        match number {
            1 => Self::Request,
            2 => Self::Response,
            3 => Self::Reset,
            4 => Self::Shutdown,
            5 => Self::Data,
            6 => Self::CreditUpdate,
            7 => Self::CreditRequest,
            other => Self::Unknown(other),
        }
    }
}

impl From<Op> for u16 {
    fn from(op: Op) -> Self {
        match op {
            Op::Request => 1,
            Op::Response => 2,
            Op::Reset => 3,
            Op::Shutdown => 4,
            Op::Data => 5,
            Op::CreditUpdate => 6,
            Op::CreditRequest => 7,
            Op::Unknown(other) => other,
        }
    }
}

/// The two ports of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ports {
    pub(super) host: u32,
    pub(super) guest: u32,
}

/// A header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) from_cid: u64,
    pub(super) to_cid: u64,
    pub(super) from_port: u32,
    pub(super) to_port: u32,
    /// Bytes that follow.
    pub(super) length: u32,
    pub(super) kind: u16,
    pub(super) op: Op,
    pub(super) flags: u32,
    /// Bytes that the sender has room for in all.
    pub(super) room: u32,
    /// Bytes that it has passed on so far, modulo 2^32.
    pub(super) forwarded: u32,
}

impl Header {
    /// A packet from the host to the guest `cid`, which holds nothing.
    pub(super) fn to_guest(cid: u64, ports: Ports, op: Op) -> Self {
        Self {
            from_cid: HOST_CID,
            to_cid: cid,
            from_port: ports.host,
            to_port: ports.guest,
            length: 0,
            kind: STREAM,
            op,
            flags: 0,
            room: 0,
            forwarded: 0,
        }
    }

    /// The answer that there is no such connection.
    pub(super) fn reset_reply(&self) -> Self {
        Self {
            from_cid: self.to_cid,
            to_cid: self.from_cid,
            from_port: self.to_port,
            to_port: self.from_port,
            length: 0,
            op: Op::Reset,
            flags: 0,
            room: 0,
            forwarded: 0,
            ..*self
        }
    }

    /// Its ports, if the guest sent it.
    pub(super) fn ports(&self) -> Ports {
        Ports { host: self.to_port, guest: self.from_port }
    }

    /// The header at the start of a chain, if one is there.
    pub(super) fn read(chain: &Chain) -> Option<Self> {
        let mut bytes = [0; SIZE];
        chain.reader().read_exact(&mut bytes).ok()?;
        Self::from_bytes(&bytes)
    }

    pub(super) fn from_bytes(bytes: &[u8; SIZE]) -> Option<Self> {
        let u64_at = |at: usize| bytes.get(at..)?.first_chunk().copied().map(u64::from_le_bytes);
        let u32_at = |at: usize| bytes.get(at..)?.first_chunk().copied().map(u32::from_le_bytes);
        let u16_at = |at: usize| bytes.get(at..)?.first_chunk().copied().map(u16::from_le_bytes);
        Some(Self {
            from_cid: u64_at(0)?,
            to_cid: u64_at(8)?,
            from_port: u32_at(16)?,
            to_port: u32_at(20)?,
            length: u32_at(24)?,
            kind: u16_at(28)?,
            op: u16_at(30)?.into(),
            flags: u32_at(32)?,
            room: u32_at(36)?,
            forwarded: u32_at(40)?,
        })
    }

    /// As it lies in memory.
    pub(super) fn to_bytes(self) -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        let fields = (self.from_cid.to_le_bytes().into_iter())
            .chain(self.to_cid.to_le_bytes())
            .chain(self.from_port.to_le_bytes())
            .chain(self.to_port.to_le_bytes())
            .chain(self.length.to_le_bytes())
            .chain(self.kind.to_le_bytes())
            .chain(u16::from(self.op).to_le_bytes())
            .chain(self.flags.to_le_bytes())
            .chain(self.room.to_le_bytes())
            .chain(self.forwarded.to_le_bytes());
        bytes.iter_mut().zip(fields).for_each(|(to, from)| *to = from);
        bytes
    }
}

#[cfg(test)]
#[path = "packet_test.rs"]
mod tests;
