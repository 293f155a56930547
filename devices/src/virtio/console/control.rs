//! What device and driver tell each other of ports (virtio 1.3 §5.3.6.2), each message an id, an event and a value.
//!
//! What is to be told is noted, not written down: a message is made when the driver has room for it, and says what holds then.
//! So whatever a guest or a client does, no more is noted than each kind of message once for each port.

use std::collections::VecDeque;

/// Bytes of a message without what may follow.
pub(super) const LENGTH: usize = 8;

const DEVICE_READY: u16 = 0;
const PORT_ADD: u16 = 1;
const PORT_READY: u16 = 3;
const CONSOLE_PORT: u16 = 4;
const RESIZE: u16 = 5;
const PORT_OPEN: u16 = 6;
const PORT_NAME: u16 = 7;

/// What the driver says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// It wants to hear of ports.
    Ready,
    /// It has taken up a port.
    PortReady(usize),
    /// A program has opened a port, or closed it.
    Open(usize, bool),
    /// Nothing that matters.
    Nothing,
}

impl Said {
    /// What a message says.
    pub(super) fn of(message: [u8; LENGTH]) -> Self {
        let [i0, i1, i2, i3, e0, e1, v0, v1] = message;
        let port = u32::from_le_bytes([i0, i1, i2, i3]) as usize;
        let value = u16::from_le_bytes([v0, v1]);
        match (u16::from_le_bytes([e0, e1]), value) {
            (DEVICE_READY, 1) => Self::Ready,
            (PORT_READY, 1) => Self::PortReady(port),
            (PORT_OPEN, 0 | 1) => Self::Open(port, value == 1),
            _ => Self::Nothing,
        }
    }
}

/// What the driver is to be told of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Topic {
    /// It is there.
    There,
    /// It is a console.
    Console,
    /// What it is called.
    Name,
    /// Whether somebody is there on the host.
    Open,
    /// How large its terminal is.
    Size,
}

/// What the driver is to be told, in order.
#[derive(Debug, Default)]
pub(super) struct Untold(VecDeque<(usize, Topic)>);

impl Untold {
    /// Notes a topic; one that is noted already is told once.
    pub(super) fn note(&mut self, port: usize, topic: Topic) {
        if !self.0.contains(&(port, topic)) {
            self.0.push_back((port, topic));
        }
    }

    /// What is to be told next.
    pub(super) fn next(&self) -> Option<(usize, Topic)> {
        self.0.front().copied()
    }

    /// It has been told.
    pub(super) fn told(&mut self) {
        self.0.pop_front();
    }
}

/// A message: there is this port.
pub(super) fn there(port: usize) -> Vec<u8> {
    message(port, PORT_ADD, 1, &[])
}

/// A message: it is a console.
pub(super) fn console(port: usize) -> Vec<u8> {
    message(port, CONSOLE_PORT, 1, &[])
}

/// A message: it is called so.
pub(super) fn name(port: usize, name: &str) -> Vec<u8> {
    message(port, PORT_NAME, 1, name.as_bytes())
}

/// A message: whether somebody is there.
pub(super) fn open(port: usize, open: bool) -> Vec<u8> {
    message(port, PORT_OPEN, open.into(), &[])
}

/// A message: its terminal has this size. Linux before 6.15 takes columns for rows.
pub(super) fn size(port: usize, columns: u16, rows: u16) -> Vec<u8> {
    message(port, RESIZE, 0, &[columns.to_le_bytes(), rows.to_le_bytes()].concat())
}

fn message(port: usize, event: u16, value: u16, more: &[u8]) -> Vec<u8> {
    let port = u32::try_from(port).unwrap_or(u32::MAX);
    [&port.to_le_bytes(), &event.to_le_bytes()[..], &value.to_le_bytes(), more].concat()
}

#[cfg(test)]
#[path = "control_test.rs"]
mod tests;
