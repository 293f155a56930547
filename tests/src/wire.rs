//! The protocol between the lab and the agent in a lab host: frames over a virtio-serial port.
//!
//! A frame is `length u32 | kind u8 | session u32 | body`, little-endian, the length counting what follows
//! it. Every command is a session with a number that the lab chose; all sessions share the port. Standard
//! input is sent against a window, so that a command which does not read cannot stop the others.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

/// Name of the virtio-serial port, as the lab gives it to QEMU and the agent looks for it.
pub(crate) const PORT: &str = "agent";
/// The most bytes of a stream that one frame carries.
pub(crate) const CHUNK: usize = 32 << 10;
/// Bytes of standard input that may be under way to one command.
pub(crate) const WINDOW: usize = 256 << 10;
/// No frame is longer, in bytes; a longer one means that the port has lost its way.
const LONGEST: usize = 4 << 20;
const HEADER: usize = 5;

/// A terminal's size, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Size {
    pub(crate) rows: u16,
    pub(crate) columns: u16,
}

/// A command to run in the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ExecRequest {
    /// Program and arguments; the program is looked up on the host's PATH.
    pub(crate) argv: Vec<String>,
    /// Added to the host's environment.
    pub(crate) env: Vec<(String, String)>,
    /// Run it on a pseudo-terminal of this size; standard error then comes out of standard output.
    pub(crate) terminal: Option<Size>,
}

/// What the agent says of its host once it takes requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ready {
    /// `uname -r` of the lab host.
    pub(crate) release: String,
    /// What went wrong in preparing the host, one sentence each; it serves nevertheless.
    pub(crate) problems: Vec<String>,
}

/// A message. The first five go to the agent, the others come from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    /// Start a command.
    Exec(ExecRequest),
    /// Bytes for its standard input.
    Stdin(Vec<u8>),
    /// Its standard input ends here.
    StdinEnd,
    /// Its terminal has another size now.
    Resize(Size),
    /// Kill it, and what it started.
    Kill,
    /// The host takes requests (session 0).
    Ready(Ready),
    /// Bytes of its standard output, or of its terminal.
    Stdout(Vec<u8>),
    /// Bytes of its standard error.
    Stderr(Vec<u8>),
    /// So many bytes of its standard input were taken: the window opens again by as many.
    Taken(u32),
    /// It ended, with this exit status; 128 + n when signal n ended it.
    Exit(i32),
}

/// Sends `frame` of `session`, in one write.
pub(crate) fn send(port: &mut impl Write, session: u32, frame: &Frame) -> io::Result<()> {
    let (kind, body): (u8, Vec<u8>) = match frame {
        Frame::Exec(request) => (1, serde_json::to_vec(request)?),
        Frame::Stdin(bytes) => (2, bytes.clone()),
        Frame::StdinEnd => (3, Vec::new()),
        Frame::Resize(size) => (4, serde_json::to_vec(size)?),
        Frame::Kill => (5, Vec::new()),
        Frame::Ready(ready) => (16, serde_json::to_vec(ready)?),
        Frame::Stdout(bytes) => (17, bytes.clone()),
        Frame::Stderr(bytes) => (18, bytes.clone()),
        Frame::Taken(bytes) => (19, bytes.to_le_bytes().to_vec()),
        Frame::Exit(status) => (20, status.to_le_bytes().to_vec()),
    };
    let length = HEADER + body.len();
    if length > LONGEST {
        return Err(invalid(format!("frame of {length} bytes is too long")));
    }
    let mut bytes = Vec::with_capacity(4 + length);
    bytes.extend_from_slice(&(length as u32).to_le_bytes());
    bytes.push(kind);
    bytes.extend_from_slice(&session.to_le_bytes());
    bytes.extend_from_slice(&body);
    port.write_all(&bytes)?;
    port.flush()
}

/// Receives the next frame and its session, or `None` when the other end is gone.
pub(crate) fn receive(port: &mut impl Read) -> io::Result<Option<(u32, Frame)>> {
    let mut length = [0; 4];
    match port.read_exact(&mut length) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let length = u32::from_le_bytes(length) as usize;
    if !(HEADER..=LONGEST).contains(&length) {
        return Err(invalid(format!("frame length {length} is out of range")));
    }
    let mut kind = [0; 1];
    let mut session = [0; 4];
    let mut body = vec![0; length - HEADER];
    port.read_exact(&mut kind)?;
    port.read_exact(&mut session)?;
    port.read_exact(&mut body)?;
    let frame = match kind {
        [1] => Frame::Exec(serde_json::from_slice(&body)?),
        [2] => Frame::Stdin(body),
        [3] => Frame::StdinEnd,
        [4] => Frame::Resize(serde_json::from_slice(&body)?),
        [5] => Frame::Kill,
        [16] => Frame::Ready(serde_json::from_slice(&body)?),
        [17] => Frame::Stdout(body),
        [18] => Frame::Stderr(body),
        [19] => Frame::Taken(u32::from_le_bytes(four(&body)?)),
        [20] => Frame::Exit(i32::from_le_bytes(four(&body)?)),
        [other] => return Err(invalid(format!("unknown frame kind {other}"))),
    };
    Ok(Some((u32::from_le_bytes(session), frame)))
}

fn four(body: &[u8]) -> io::Result<[u8; 4]> {
    body.try_into().map_err(|_| invalid(format!("{} bytes where 4 belong", body.len())))
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
#[path = "wire_test.rs"]
mod tests;
