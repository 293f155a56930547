//! A daemon for tests: answers as it is told to, and notes what it was asked.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use vmm_sys_util::sock_ctrl_msg::ScmSocket;

/// Generous: the machine may be busy.
const DEADLINE: Duration = Duration::from_secs(60);

pub(super) const GET_FEATURES: u32 = 1;
pub(super) const SET_FEATURES: u32 = 2;
pub(super) const SET_MEM_TABLE: u32 = 5;
pub(super) const SET_VRING_ADDR: u32 = 9;
pub(super) const SET_VRING_BASE: u32 = 10;
pub(super) const GET_VRING_BASE: u32 = 11;
pub(super) const SET_VRING_KICK: u32 = 12;
pub(super) const SET_VRING_CALL: u32 = 13;
pub(super) const SET_VRING_ERR: u32 = 14;
pub(super) const GET_PROTOCOL_FEATURES: u32 = 15;
pub(super) const SET_PROTOCOL_FEATURES: u32 = 16;
pub(super) const GET_QUEUE_NUM: u32 = 17;
pub(super) const SET_VRING_ENABLE: u32 = 18;
pub(super) const GET_CONFIG: u32 = 24;
pub(super) const GET_INFLIGHT_FD: u32 = 31;
pub(super) const SET_INFLIGHT_FD: u32 = 32;

/// VERSION_1, EVENT_IDX, INDIRECT_DESC and PROTOCOL_FEATURES.
pub(super) const USUAL: u64 = 1 << 32 | 1 << 30 | 1 << 29 | 1 << 28;
/// MQ, REPLY_ACK, CONFIG and INFLIGHT_SHMFD.
pub(super) const PROTOCOL: u64 = 1 << 0 | 1 << 3 | 1 << 9 | 1 << 12;

/// What a daemon does.
#[derive(Clone)]
pub(super) struct Habits {
    pub(super) features: u64,
    pub(super) protocol: u64,
    pub(super) queues: u64,
    /// A request that is never answered.
    pub(super) silent_at: Option<u32>,
    /// A request upon which the connection is closed.
    pub(super) closes_at: Option<u32>,
    /// A request that is answered with nonsense.
    pub(super) babbles_at: Option<u32>,
    pub(super) config: Vec<u8>,
}

impl Default for Habits {
    fn default() -> Self {
        Self {
            features: USUAL,
            protocol: PROTOCOL,
            queues: 2,
            silent_at: None,
            closes_at: None,
            babbles_at: None,
            config: Vec::new(),
        }
    }
}

/// A request: its code, what it says, and the first descriptor with it.
pub(super) struct Request(pub(super) u32, pub(super) Vec<u8>, pub(super) Option<File>);

/// A daemon at a path. It ends when this is dropped.
pub(super) struct Scripted {
    pub(super) path: PathBuf,
    requests: Receiver<Request>,
    connection: Receiver<UnixStream>,
    connected: Option<UnixStream>,
    /// The latest request of each kind for each ring, those included that were passed over.
    seen: BTreeMap<(u32, u64), Request>,
}

impl Scripted {
    /// Listens at `path`, and serves one connection.
    pub(super) fn start(path: PathBuf, habits: Habits) -> Self {
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        let (sender, requests) = channel();
        let (connections, connection) = channel();
        thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let _ = connections.send(stream.try_clone().unwrap());
            serve(stream, &habits, &sender);
        });
        Self { path, requests, connection, connected: None, seen: BTreeMap::new() }
    }

    /// Waits for a request; gives what it says.
    pub(super) fn wait_for(&mut self, code: u32) -> Vec<u8> {
        loop {
            let request =
                self.requests.recv_timeout(DEADLINE).unwrap_or_else(|_| panic!("no request {code}"));
            let (got, body) = (request.0, request.1.clone());
            self.seen.insert((got, number(&body, 0) & 0xff), request);
            if got == code {
                return body;
            }
        }
    }

    /// The descriptor that came with the latest request of a kind for a ring.
    pub(super) fn file(&self, code: u32, ring: u64) -> &File {
        self.seen[&(code, ring)].2.as_ref().expect("no descriptor")
    }

    /// What the latest request of a kind for a ring said.
    pub(super) fn body(&self, code: u32, ring: u64) -> &[u8] {
        &self.seen[&(code, ring)].1
    }

    /// Waits for the eventfd among these, and takes what is in it.
    pub(super) fn wait_for_event(&self, code: u32, ring: u64) {
        let mut file = self.file(code, ring);
        let mut poll = [PollFd::new(file, PollFlags::IN)];
        let timeout = Timespec::try_from(DEADLINE).unwrap();
        assert_eq!(rustix::event::poll(&mut poll, Some(&timeout)).unwrap(), 1, "nothing was signalled");
        std::io::Read::read_exact(&mut file, &mut [0; 8]).unwrap();
    }

    /// Signals it.
    pub(super) fn signal(&self, code: u32, ring: u64) {
        self.file(code, ring).write_all(&1_u64.to_le_bytes()).unwrap();
    }

    /// Ends, as if it had been killed.
    pub(super) fn die(mut self) {
        self.hang_up();
    }

    fn hang_up(&mut self) {
        if let Some(stream) = self.connected.take().or_else(|| self.connection.try_recv().ok()) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.hang_up();
    }
}

/// The 64-bit number at `offset`, or 0.
pub(super) fn number(body: &[u8], offset: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.iter_mut().zip(body.iter().skip(offset)).for_each(|(to, from)| *to = *from);
    u64::from_le_bytes(bytes)
}

fn serve(mut stream: UnixStream, habits: &Habits, notes: &Sender<Request>) {
    let mut acknowledges = false;
    loop {
        let mut header = [0; 12];
        let Ok((12, file)) = stream.recv_with_fd(&mut header) else { return };
        let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().unwrap());
        let (code, flags, mut body) = (word(0), word(4), vec![0; word(8) as usize]);
        if std::io::Read::read_exact(&mut stream, &mut body).is_err() {
            return;
        }
        let said = body.clone();
        let _ = notes.send(Request(code, body.clone(), file));
        if habits.closes_at == Some(code) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
            return;
        }
        if habits.silent_at == Some(code) {
            // Until the other side gives up.
            let _ = std::io::Read::read(&mut stream, &mut [0]);
            return;
        }
        let mut attached = None;
        let answer = match code {
            GET_FEATURES => habits.features.to_le_bytes().to_vec(),
            GET_PROTOCOL_FEATURES => habits.protocol.to_le_bytes().to_vec(),
            GET_QUEUE_NUM => habits.queues.to_le_bytes().to_vec(),
            GET_VRING_BASE => said[..4].iter().copied().chain([7, 0, 0, 0]).collect(),
            GET_CONFIG => said[..12].iter().chain(&habits.config).copied().collect(),
            GET_INFLIGHT_FD => {
                attached = Some(tempfile::tempfile().unwrap());
                [&4096_u64.to_le_bytes()[..], &said[8..]].concat()
            }
            _ if acknowledges && flags & 8 != 0 => vec![0; 8],
            _ => Vec::new(),
        };
        if code == SET_PROTOCOL_FEATURES {
            acknowledges = number(&said, 0) & 1 << 3 != 0;
        }
        if answer.is_empty() {
            continue;
        }
        let code = if habits.babbles_at == Some(code) { 0xffff } else { code };
        let header = [code, 5, answer.len() as u32].map(u32::to_le_bytes).concat();
        let message = [header, answer].concat();
        let sent = match attached {
            Some(file) => {
                use std::os::fd::AsRawFd;
                stream.send_with_fd(&message[..], file.as_raw_fd()).is_ok()
            }
            None => stream.write_all(&message).is_ok(),
        };
        if !sent {
            return;
        }
    }
}
