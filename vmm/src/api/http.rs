//! HTTP/1.1 as the API speaks it (RFC 9110, RFC 9112): requests with a length, responses with a length, nothing else.
//!
//! The head is read by httparse; what is here bounds it and decides what of it we take. Everything is a function of the
//! bytes that have arrived, so it is tested without a socket.

use std::io::Write;

/// A request's head may take this many bytes.
pub const MAX_HEAD: usize = 16 << 10;
/// A request's body may take this many bytes.
pub const MAX_BODY: usize = 1 << 20;
const MAX_HEADERS: usize = 64;

/// The methods that mean something here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `GET`
    Get,
    /// `PUT`
    Put,
    /// Any other.
    Other,
}

/// A whole request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Its method.
    pub method: Method,
    /// The path without its query: `/api/v1/vm.info`.
    pub path: String,
    /// The body, at most [`MAX_BODY`] bytes.
    pub body: Vec<u8>,
    /// Whether the connection is to stay open after the response.
    pub keep_alive: bool,
}

/// What the bytes that have arrived come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// More has to come; the client may be waiting to be told to go on.
    Partial {
        /// Whether it waits for `100 Continue`.
        wants_continue: bool,
    },
    /// A request, and how many bytes it took.
    Complete(Request, usize),
}

/// A request that is answered with an error without being looked at further. The connection is closed after it, since
/// nobody knows where the next request begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    /// Not HTTP.
    #[error("this is not an HTTP request")]
    Syntax,
    /// HTTP of another version.
    #[error("only HTTP/1.0 and HTTP/1.1 are spoken here")]
    Version,
    /// More than [`MAX_HEAD`] bytes or too many headers.
    #[error("the request's head is larger than {MAX_HEAD} bytes or has more than {MAX_HEADERS} headers")]
    HeadTooLarge,
    /// More than [`MAX_BODY`] bytes.
    #[error("the request's body is larger than {MAX_BODY} bytes")]
    BodyTooLarge,
    /// A length that is none, or two of them.
    #[error("the request's Content-Length makes no sense")]
    Length,
    /// A body in chunks.
    #[error("a body needs a Content-Length, not a Transfer-Encoding")]
    Chunked,
    /// It expects what is not done here.
    #[error("the request's Expect is not understood")]
    Expectation,
}

impl BadRequest {
    /// The status it is answered with.
    pub fn status(self) -> u16 {
        match self {
            Self::Syntax | Self::Length => 400,
            Self::Chunked => 411,
            Self::BodyTooLarge => 413,
            Self::Expectation => 417,
            Self::HeadTooLarge => 431,
            Self::Version => 505,
        }
    }
}

/// What of the headers matters.
#[derive(Default)]
struct Headers {
    length: Option<usize>,
    close: bool,
    keep_alive: bool,
    wants_continue: bool,
}

/// Reads the first request in `bytes`.
pub fn parse(bytes: &[u8]) -> Result<Progress, BadRequest> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Request::new(&mut headers);
    let parsed = head.parse(bytes).map_err(|error| match error {
        httparse::Error::TooManyHeaders => BadRequest::HeadTooLarge,
        httparse::Error::Version => BadRequest::Version,
        _ => BadRequest::Syntax,
    })?;
    let size = match parsed {
        httparse::Status::Complete(size) if size <= MAX_HEAD => size,
        httparse::Status::Partial if bytes.len() < MAX_HEAD => {
            return Ok(Progress::Partial { wants_continue: false });
        }
        _ => return Err(BadRequest::HeadTooLarge),
    };
    let wanted = read_headers(head.headers)?;
    let length = wanted.length.unwrap_or(0);
    let Some(body) = bytes.get(size..size + length) else {
        let wants_continue = wanted.wants_continue && bytes.len() == size;
        return Ok(Progress::Partial { wants_continue });
    };
    let method = match head.method {
        Some("GET") => Method::Get,
        Some("PUT") => Method::Put,
        _ => Method::Other,
    };
    let keep_alive = !wanted.close && (head.version == Some(1) || wanted.keep_alive);
    let path = path_of(head.path.unwrap_or_default()).to_owned();
    Ok(Progress::Complete(Request { method, path, body: body.to_vec(), keep_alive }, size + length))
}

fn read_headers(headers: &[httparse::Header]) -> Result<Headers, BadRequest> {
    let mut wanted = Headers::default();
    for header in headers {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        let says = |word: &[u8]| {
            header.value.split(|byte| *byte == b',').any(|part| part.trim_ascii().eq_ignore_ascii_case(word))
        };
        if is("content-length") {
            let length = content_length(header.value)?;
            if wanted.length.is_some_and(|before| before != length) {
                return Err(BadRequest::Length);
            }
            wanted.length = Some(length);
        } else if is("transfer-encoding") {
            return Err(BadRequest::Chunked);
        } else if is("connection") {
            wanted.close |= says(b"close");
            wanted.keep_alive |= says(b"keep-alive");
        } else if is("expect") {
            if !says(b"100-continue") {
                return Err(BadRequest::Expectation);
            }
            wanted.wants_continue = true;
        }
    }
    Ok(wanted)
}

/// Digits and nothing else (RFC 9110 §8.6): no sign, no list.
fn content_length(value: &[u8]) -> Result<usize, BadRequest> {
    let digits = std::str::from_utf8(value.trim_ascii()).map_err(|_| BadRequest::Length)?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(BadRequest::Length);
    }
    match digits.parse() {
        Ok(length) if length <= MAX_BODY => Ok(length),
        _ => Err(BadRequest::BodyTooLarge),
    }
}

/// `/path` of `/path?query` and of `http://host/path`.
fn path_of(target: &str) -> &str {
    let target = match target.split_once("://") {
        Some((_, rest)) => rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/"),
        None => target,
    };
    target.split(['?', '#']).next().unwrap_or_default()
}

/// What a request is answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// 200, 204, or an error.
    pub status: u16,
    /// `application/json`, or another.
    pub kind: &'static str,
    /// The body; none with 204.
    pub body: Vec<u8>,
}

impl Response {
    /// Done, and nothing to say.
    pub fn done() -> Self {
        Self { status: 204, kind: JSON, body: Vec::new() }
    }

    /// JSON.
    pub fn json(status: u16, value: &serde_json::Value) -> Self {
        Self { status, kind: JSON, body: value.to_string().into_bytes() }
    }

    /// Text.
    pub fn text(kind: &'static str, text: String) -> Self {
        Self { status: 200, kind, body: text.into_bytes() }
    }

    /// Why not: an array of strings, the problem first, then its causes.
    pub fn error(status: u16, messages: &[String]) -> Self {
        Self::json(status, &messages.into())
    }

    /// As it goes over the wire. There is no reason phrase: HTTP does not need one, and `ch-remote` takes all after
    /// `HTTP/1.1 ` for the status. It also wants `Content-Length` spelled just so.
    pub fn to_bytes(&self, keep_alive: bool) -> Vec<u8> {
        let mut bytes = format!("HTTP/1.1 {} \r\nServer: vmm\r\n", self.status).into_bytes();
        if self.status != 204 {
            bytes.extend(format!("Content-Type: {}\r\n", self.kind).into_bytes());
            // Writing to a vector cannot fail.
            let _ = write!(bytes, "Content-Length: {}\r\n", self.body.len());
        }
        if !keep_alive {
            bytes.extend(b"Connection: close\r\n");
        }
        bytes.extend(b"\r\n");
        bytes.extend(&self.body);
        bytes
    }
}

const JSON: &str = "application/json";
/// What a client that waits for it is told before it sends its body.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

#[cfg(test)]
#[path = "http_test.rs"]
mod tests;
