//! The client's side of the API: one request on one connection.

use std::fmt::Display;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use miette::Diagnostic;

/// An answer may take this many bytes.
const MAX_ANSWER: u64 = 64 << 20;
const MAX_HEADERS: usize = 64;

/// What the machine answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// As text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Why there is no answer, or not the one wanted.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("no machine answers at {}", path.display())]
    Unreachable {
        path: PathBuf,
        #[source]
        source: Arc<io::Error>,
    },
    #[error("the machine went away before it answered")]
    Lost {
        #[source]
        source: Arc<io::Error>,
    },
    #[error("what answers at {} is no machine", path.display())]
    NotHttp { path: PathBuf },
    #[error("{message}")]
    Refused {
        status: u16,
        message: String,
        #[source]
        cause: Option<Cause>,
        help: Option<String>,
    },
    #[error("the guest is still there after {0:?}")]
    StillThere(Duration),
}

/// A cause that the machine named, and what caused it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Cause {
    message: String,
    #[source]
    cause: Option<Box<Cause>>,
}

impl Diagnostic for ClientError {
    fn help<'a>(&'a self) -> Option<Box<dyn Display + 'a>> {
        let text = match self {
            Self::Unreachable { .. } => {
                "give the path that `vmm run --api-socket` or `vmm --api-socket` was given"
            }
            Self::Lost { source } if source.kind() == io::ErrorKind::WouldBlock => {
                "it did not answer within --timeout; it may still do what was asked"
            }
            Self::Lost { .. } => "see what its vmm said last",
            Self::NotHttp { .. } => "give the path of a socket of vmm",
            Self::Refused { help, .. } => {
                return help.as_ref().map(|help| Box::new(help) as Box<dyn Display>);
            }
            Self::StillThere(_) => {
                "it does not heed its power button; `vmm ctl shutdown` stops it without asking"
            }
        };
        Some(Box::new(text))
    }
}

/// Asks the machine at one socket.
pub(crate) struct Client {
    path: PathBuf,
    timeout: Option<Duration>,
}

impl Client {
    pub(crate) fn new(path: &Path, timeout: Option<Duration>) -> Self {
        // A timeout of nothing is refused by the standard library.
        Self { path: path.to_owned(), timeout: timeout.map(|timeout| timeout.max(Duration::from_millis(1))) }
    }

    pub(crate) fn get(&self, path: &str) -> Result<Answer, ClientError> {
        self.ask("GET", path, b"")
    }

    pub(crate) fn put(&self, path: &str, body: &[u8]) -> Result<Answer, ClientError> {
        self.ask("PUT", path, body)
    }

    /// Makes a request.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &[u8]) -> Result<Answer, ClientError> {
        let unreachable =
            |source| ClientError::Unreachable { path: self.path.clone(), source: Arc::new(source) };
        let mut stream = UnixStream::connect(&self.path).map_err(unreachable)?;
        stream.set_read_timeout(self.timeout).map_err(unreachable)?;
        stream.set_write_timeout(self.timeout).map_err(unreachable)?;
        let mut request =
            format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n").into_bytes();
        if !body.is_empty() {
            request.extend(
                format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()).bytes(),
            );
        }
        request.extend(b"\r\n");
        request.extend(body);
        // One that has refused before it read everything has answered all the same.
        let written = stream.write_all(&request);
        let mut answer = Vec::new();
        let read = stream.take(MAX_ANSWER).read_to_end(&mut answer);
        let lost = |source| ClientError::Lost { source: Arc::new(source) };
        if answer.is_empty() {
            written.map_err(lost)?;
            read.map_err(lost)?;
            return Err(lost(io::ErrorKind::UnexpectedEof.into()));
        }
        self.understand(&answer, read.err())
    }

    fn understand(&self, answer: &[u8], failed: Option<io::Error>) -> Result<Answer, ClientError> {
        let (status, body) = parse(answer).ok_or_else(|| match failed {
            Some(source) => ClientError::Lost { source: Arc::new(source) },
            None => ClientError::NotHttp { path: self.path.clone() },
        })?;
        match status {
            200..=299 => Ok(Answer { body: body.to_vec() }),
            _ => Err(refusal(status, body)),
        }
    }
}

/// The status and the body of a response that ends with the connection.
fn parse(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(size) = head.parse(bytes).ok()? else { return None };
    let mut body = bytes.get(size..)?;
    for header in head.headers.iter().filter(|header| header.name.eq_ignore_ascii_case("content-length")) {
        let length: usize = std::str::from_utf8(header.value).ok()?.trim().parse().ok()?;
        body = body.get(..length)?;
    }
    Some((head.code?, body))
}

/// What was wrong, as the machine says it: the problem, its causes, its remedy.
fn refusal(status: u16, body: &[u8]) -> ClientError {
    let mut messages: Vec<String> = serde_json::from_slice(body).unwrap_or_default();
    let help = messages.last().and_then(|last| last.strip_prefix("help: ")).map(str::to_owned);
    if help.is_some() {
        messages.pop();
    }
    let mut cause = None;
    for message in messages.drain(1.min(messages.len())..).rev() {
        cause = Some(Cause { message, cause: cause.map(Box::new) });
    }
    let message = messages.pop().unwrap_or_else(|| format!("the machine answered with status {status}"));
    ClientError::Refused { status, message, cause, help }
}

/// The first cause of an error, for tests and messages.
#[cfg(test)]
fn causes(error: &ClientError) -> Vec<String> {
    use std::error::Error as _;
    std::iter::successors(error.source(), |error| (*error).source()).map(ToString::to_string).collect()
}

#[cfg(test)]
#[path = "client_test.rs"]
mod tests;
