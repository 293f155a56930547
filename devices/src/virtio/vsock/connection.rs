//! One connection between a guest's socket and a Unix socket of the host.
//!
//! The stream is polled edge-triggered: whether it can be read or written is noted here until the kernel says otherwise.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use vm_memory::{ReadVolatile, VolatileMemoryError, VolatileSlice, WriteVolatile};

use super::credit::Credit;
use super::packet::{Header, NO_RECEIVE, NO_SEND, Op, Ports, SIZE};
use crate::virtio::{Chain, RingError};

/// Most bytes in one packet: what Linux sends in one, too.
const MOST: u32 = 64 << 10;
const BOTH: u32 = NO_RECEIVE | NO_SEND;

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The guest has until then to answer.
    Asked { until: Instant },
    /// Both sides are there.
    Open,
    /// The guest is gone; what it sent is still to be written.
    Draining,
}

/// What becomes of a connection after a packet of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It goes on.
    Stays,
    /// The guest is done with it.
    Ends,
    /// The guest broke the protocol: it is told that there is no connection any more.
    Refused,
}

/// A connection.
pub(super) struct Connection {
    stream: UnixStream,
    pub(super) ports: Ports,
    stage: Stage,
    credit: Credit,
    /// Sent by the guest, not yet taken by the host's side. Never more than credit allows.
    unsent: VecDeque<u8>,
    readable: bool,
    writable: bool,
    /// What the guest will not do any more; what the host's side will not, and how much of that the guest knows.
    guest_ends: u32,
    host_ends: u32,
    told_ends: u32,
    /// A request or a response that the guest is to get first.
    opening: Option<Op>,
    /// The guest asked for our credit; we asked for its, and it has given none since.
    asked_credit: bool,
    asking_credit: bool,
    /// It is in the list of those that have something for the guest.
    pub(super) queued: bool,
}

impl Connection {
    fn new(stream: UnixStream, ports: Ports, stage: Stage, opening: Op) -> Self {
        Self {
            stream,
            ports,
            stage,
            credit: Credit::default(),
            unsent: VecDeque::new(),
            readable: true,
            writable: true,
            guest_ends: 0,
            host_ends: 0,
            told_ends: 0,
            opening: Some(opening),
            asked_credit: false,
            asking_credit: false,
            queued: false,
        }
    }

    /// A client of the host wants to talk to a port of the guest, which has some time to answer.
    pub(super) fn from_host(stream: UnixStream, ports: Ports, until: Instant) -> Self {
        Self::new(stream, ports, Stage::Asked { until }, Op::Request)
    }

    /// The guest asked for a port of the host, and `stream` leads there.
    pub(super) fn from_guest(stream: UnixStream, request: &Header) -> Self {
        let mut connection = Self::new(stream, request.ports(), Stage::Open, Op::Response);
        connection.credit.heard(request.room, request.forwarded);
        connection
    }

    /// Whether the guest has not answered in time.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        matches!(self.stage, Stage::Asked { until } if until <= now)
    }

    /// Whether the guest has still to answer.
    pub(super) fn is_asked(&self) -> bool {
        matches!(self.stage, Stage::Asked { .. })
    }

    /// Whether nothing is left to be done.
    pub(super) fn is_over(&self) -> bool {
        match self.stage {
            Stage::Draining => self.unsent.is_empty() || self.is_deaf(),
            _ => self.told_ends == BOTH,
        }
    }

    /// Whether the host's side takes nothing any more.
    fn is_deaf(&self) -> bool {
        self.host_ends & NO_RECEIVE != 0
    }

    /// A packet of the guest for it, in `chain` behind the header.
    pub(super) fn receive(&mut self, header: &Header, chain: &Chain) -> Result<Verdict, RingError> {
        self.credit.heard(header.room, header.forwarded);
        self.asking_credit &= self.credit.sendable() == 0;
        let open = self.stage == Stage::Open;
        Ok(match header.op {
            Op::Response if self.is_asked() => {
                self.stage = Stage::Open;
                let greeting = format!("OK {}\n", self.ports.host);
                // Nothing else was written yet, so there is room.
                match self.stream.write_all(greeting.as_bytes()) {
                    Ok(()) => Verdict::Stays,
                    Err(_) => Verdict::Refused,
                }
            }
            Op::Reset => Verdict::Ends,
            Op::Shutdown if open => {
                self.guest_ends |= header.flags & BOTH;
                if self.guest_ends & NO_RECEIVE != 0 {
                    // Nothing more is read here, which the guest knows.
                    self.host_ends |= NO_SEND;
                    self.told_ends |= NO_SEND;
                    self.shut(Shutdown::Read);
                }
                self.flush();
                if self.guest_ends == BOTH { Verdict::Refused } else { Verdict::Stays }
            }
            Op::Data if open && self.guest_ends & NO_SEND == 0 && self.credit.receive(header.length) => {
                let mut reader = chain.reader();
                reader.slices(SIZE as u64)?;
                for slice in reader.slices(header.length.into())? {
                    self.pass_on(slice).map_err(RingError::Access)?;
                }
                Verdict::Stays
            }
            Op::CreditUpdate if open => Verdict::Stays,
            Op::CreditRequest if open => {
                self.asked_credit = true;
                Verdict::Stays
            }
            _ => Verdict::Refused,
        })
    }

    /// Passes bytes of the guest on, or keeps them.
    fn pass_on(&mut self, mut bytes: VolatileSlice<'_>) -> io::Result<()> {
        while self.unsent.is_empty() && self.writable && !self.is_deaf() && !bytes.is_empty() {
            let written = self.stream.write_volatile(&bytes).map_err(io_error);
            let written = self.note_written(written);
            bytes = bytes.offset(written).map_err(io_error)?;
        }
        if self.is_deaf() {
            self.credit.forward(bytes.len() as u32);
        } else if !bytes.is_empty() {
            let mut kept = vec![0; bytes.len()];
            bytes.copy_to(&mut kept);
            self.unsent.extend(kept);
        }
        Ok(())
    }

    /// What came of a write to the host's side; gives the bytes that are done with.
    fn note_written(&mut self, written: io::Result<usize>) -> usize {
        match written {
            Ok(bytes) => {
                self.credit.forward(bytes as u32);
                return bytes;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable = false,
            Err(_) => self.hang_up(),
        }
        0
    }

    /// Writes what is kept, as far as the host's side takes it.
    fn flush(&mut self) {
        while self.writable && !self.is_deaf() {
            let (front, _) = self.unsent.as_slices();
            if front.is_empty() {
                break;
            }
            let written = self.stream.write(front);
            let written = self.note_written(written);
            self.unsent.drain(..written);
        }
        if self.guest_ends & NO_SEND != 0 && self.unsent.is_empty() {
            self.shut(Shutdown::Write);
        }
    }

    /// The host's side takes nothing any more: what is kept is lost.
    fn hang_up(&mut self) {
        self.host_ends |= NO_RECEIVE;
        self.credit.forward(self.unsent.len() as u32);
        self.unsent = VecDeque::new();
    }

    /// Ends a direction of the stream. One that is not connected any more has ended.
    fn shut(&self, direction: Shutdown) {
        if let Err(error) = self.stream.shutdown(direction)
            && error.kind() != io::ErrorKind::NotConnected
        {
            tracing::debug!(%error, "a direction of a vsock connection stays open");
        }
    }

    /// The stream can be read, or written, or was hung up.
    pub(super) fn polled(&mut self, readable: bool, writable: bool, hung_up: bool) {
        self.readable |= readable || hung_up;
        self.writable |= writable;
        if hung_up {
            self.hang_up();
        }
        self.flush();
    }

    /// The guest is gone. Gives back the connection if what it has sent is still to be written.
    pub(super) fn drain(mut self) -> Option<Self> {
        self.stage = Stage::Draining;
        self.queued = false;
        Some(self).filter(|it| it.guest_ends & NO_SEND != 0 && !it.is_over())
    }

    /// Whether it has something for the guest.
    pub(super) fn has_packet(&self) -> bool {
        let waits = self.may_read() && (self.credit.sendable() > 0 || !self.asking_credit);
        self.opening.is_some() || self.stage == Stage::Open && (waits || self.has_news())
    }

    /// Whether the guest is to hear something of it, apart from data.
    fn has_news(&self) -> bool {
        self.host_ends & !self.told_ends != 0 || self.asked_credit || self.credit.is_worth_telling()
    }

    fn may_read(&self) -> bool {
        self.readable && self.host_ends & NO_SEND == 0
    }

    /// Writes its next packet to `chain`, if there is one; gives the bytes written.
    pub(super) fn fill(&mut self, cid: u64, chain: &Chain) -> Result<Option<u32>, RingError> {
        let mut packet = Header::to_guest(cid, self.ports, Op::Data);
        let mut writer = chain.writer();
        let mut body = writer.clone();
        body.slices(SIZE as u64)?;
        if let Some(op) = self.opening.take() {
            packet.op = op;
        } else if self.stage != Stage::Open {
            return Ok(None);
        } else {
            let room = body.remaining().min(MOST.into()).min(self.credit.sendable().into());
            if self.may_read() && room > 0 {
                packet.length = self.read(body.slices(room)?);
                self.credit.sent(packet.length);
            }
            if packet.length == 0 {
                packet.op = if self.host_ends & !self.told_ends != 0 {
                    packet.flags = self.host_ends;
                    self.told_ends = self.host_ends;
                    Op::Shutdown
                } else if self.may_read() && room == 0 && !self.asking_credit {
                    self.asking_credit = true;
                    Op::CreditRequest
                } else if self.asked_credit || self.credit.is_worth_telling() {
                    Op::CreditUpdate
                } else {
                    return Ok(None);
                };
            }
        }
        // Every packet tells of credit.
        self.asked_credit = false;
        (packet.room, packet.forwarded) = self.credit.tell();
        writer.write_all(&packet.to_bytes()).map_err(RingError::Access)?;
        Ok(Some(SIZE as u32 + packet.length))
    }

    /// Reads from the host's side into the guest's buffers; gives the bytes.
    fn read(&mut self, buffers: Vec<VolatileSlice<'_>>) -> u32 {
        let mut read = 0;
        for mut buffer in buffers {
            match self.stream.read_volatile(&mut buffer).map_err(io_error) {
                Ok(0) => {
                    self.host_ends |= NO_SEND;
                    break;
                }
                Ok(bytes) => {
                    read += bytes as u32;
                    if bytes < buffer.len() {
                        break;
                    }
                }
                Err(error) => {
                    match error.kind() {
                        io::ErrorKind::Interrupted => {}
                        io::ErrorKind::WouldBlock => self.readable = false,
                        // Said once of a peer that left without having read everything; what it wrote comes after that.
                        io::ErrorKind::ConnectionReset if !self.is_deaf() => self.hang_up(),
                        _ => {
                            self.hang_up();
                            self.host_ends |= NO_SEND;
                        }
                    }
                    break;
                }
            }
        }
        read
    }
}

fn io_error(error: VolatileMemoryError) -> io::Error {
    match error {
        VolatileMemoryError::IOError(error) => error,
        other => io::Error::other(other),
    }
}
