//! What a client of the host says first: `CONNECT port`, and the end of a line. The rest is for the guest, and is not read
//! here.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

/// Most bytes of the line.
const LONGEST: usize = 32;

/// A client that has not said yet what it wants.
pub(super) struct Client {
    stream: UnixStream,
    line: Vec<u8>,
    until: Instant,
}

/// What is known of what a client wants.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// It has more to say.
    Unsaid,
    /// To be connected to this port of the guest.
    Port(u32),
    /// Nothing that makes sense; or it is gone.
    Nonsense,
}

impl Client {
    /// A client that has until then to say what it wants.
    pub(super) fn new(stream: UnixStream, until: Instant) -> Self {
        Self { stream, line: Vec::new(), until }
    }

    /// Whether it has not said it in time.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        self.until <= now
    }

    /// Its stream.
    pub(super) fn into_stream(self) -> UnixStream {
        self.stream
    }

    /// Reads on, until there is nothing more or the line is complete.
    pub(super) fn listen(&mut self) -> Wish {
        loop {
            let mut seen = [0; LONGEST];
            let length = match recv(&self.stream, &mut seen, RecvFlags::PEEK) {
                Ok((0, _)) => return Wish::Nonsense,
                Ok((length, _)) => length,
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => return Wish::Unsaid,
                Err(_) => return Wish::Nonsense,
            };
            let seen = seen.get(..length).unwrap_or_default();
            let end = seen.iter().position(|byte| *byte == b'\n');
            let mut taken = vec![0; end.map_or(length, |end| end + 1)];
            if self.stream.read_exact(&mut taken).is_err() {
                return Wish::Nonsense;
            }
            self.line.extend(taken);
            if self.line.len() > LONGEST {
                return Wish::Nonsense;
            }
            if end.is_some() {
                return port(&self.line).map_or(Wish::Nonsense, Wish::Port);
            }
        }
    }
}

/// The port in `CONNECT port`.
fn port(line: &[u8]) -> Option<u32> {
    let mut words = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
    let (verb, port, rest) = (words.next()?, words.next()?, words.next());
    let known = verb.eq_ignore_ascii_case("connect") && rest.is_none();
    port.parse().ok().filter(|_| known)
}

#[cfg(test)]
#[path = "greeting_test.rs"]
mod tests;
