//! A connection to a daemon. It is not trusted: every exchange has a deadline, when the connection is shut down, which ends
//! whatever waits for it; and what is offered is looked at before it is relied on.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv, socket_with,
};
use vhost::VhostBackend;
use vhost::vhost_user::message::{VhostUserConfigFlags, VhostUserHeaderFlag};
use vhost::vhost_user::{
    Error as ProtocolError, Frontend, VhostUserFrontend, VhostUserProtocolFeatures, VhostUserVirtioFeatures,
};
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;

use super::error::DaemonError;

/// What we can do of the protocol's extensions.
const KNOWN: VhostUserProtocolFeatures = VhostUserProtocolFeatures::MQ
    .union(VhostUserProtocolFeatures::REPLY_ACK)
    .union(VhostUserProtocolFeatures::CONFIG)
    .union(VhostUserProtocolFeatures::INFLIGHT_SHMFD);
/// A daemon that needs not say how many queues it serves has so many.
const USUAL_QUEUES: u64 = 2;

/// A connection, after the handshake.
pub(super) struct Link {
    frontend: Frontend,
    /// The same socket, to shut it down.
    stream: Arc<UnixStream>,
    path: PathBuf,
    patience: Duration,
    /// Virtio features, those of rings included.
    offered: u64,
    protocol: VhostUserProtocolFeatures,
    queues: u64,
}

impl Link {
    /// Connects to the daemon at `path`, which has `patience` for each answer, and asks what it offers.
    pub(super) fn open(path: &Path, patience: Duration) -> Result<Self, DaemonError> {
        let stream = dial(path).map_err(|error| DaemonError::connect(path, error.into()))?;
        let host = |source| DaemonError::Host { path: path.to_owned(), source };
        let frontend = Frontend::from_stream(stream.try_clone().map_err(host)?, USUAL_QUEUES);
        let mut link = Self {
            frontend,
            stream: Arc::new(stream),
            path: path.to_owned(),
            patience,
            offered: 0,
            protocol: VhostUserProtocolFeatures::empty(),
            queues: USUAL_QUEUES,
        };
        link.greet()?;
        Ok(link)
    }

    fn greet(&mut self) -> Result<(), DaemonError> {
        self.offered = self.exchange("its features", |daemon| daemon.get_features())?;
        if self.offered & VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits() == 0 {
            return Err(self.lacks("protocol features (VHOST_USER_F_PROTOCOL_FEATURES)"));
        }
        if self.offered >> VIRTIO_F_VERSION_1 & 1 == 0 {
            return Err(self.lacks("virtio 1.0 (VIRTIO_F_VERSION_1)"));
        }
        self.protocol = self.exchange("its protocol features", |daemon| {
            let features = daemon.get_protocol_features()? & KNOWN;
            daemon.set_protocol_features(features)?;
            Ok(features)
        })?;
        if self.has(VhostUserProtocolFeatures::REPLY_ACK) {
            self.frontend.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
        }
        if self.has(VhostUserProtocolFeatures::MQ) {
            self.queues = self.exchange("its number of queues", |daemon| daemon.get_queue_num())?;
        }
        self.exchange("being ours", |daemon| daemon.set_owner())
    }

    /// Talks to the daemon, about `step`. After an error the connection is of no use any more.
    pub(super) fn exchange<T>(
        &mut self,
        step: &'static str,
        talk: impl FnOnce(&mut Frontend) -> vhost::Result<T>,
    ) -> Result<T, DaemonError> {
        let host = |source| DaemonError::Host { path: self.path.clone(), source };
        let deadline = Deadline::set(&self.stream, self.patience).map_err(host)?;
        let result = talk(&mut self.frontend);
        let late = deadline.lift();
        result.map_err(|error| self.explain(error, step, late))
    }

    /// What an error of an exchange means.
    fn explain(&self, error: vhost::Error, step: &'static str, late: bool) -> DaemonError {
        let path = self.path.clone();
        match error {
            _ if late => DaemonError::Silent { path, step, patience: self.patience },
            vhost::Error::VhostUserProtocol(
                ProtocolError::Disconnected | ProtocolError::PartialMessage | ProtocolError::SocketBroken(_),
            ) => DaemonError::Closed { path, step },
            source => DaemonError::Nonsense { path, step, source },
        }
    }

    /// The device's configuration, as the daemon has it.
    pub(super) fn config(&mut self, size: u32) -> Result<Vec<u8>, DaemonError> {
        if !self.has(VhostUserProtocolFeatures::CONFIG) {
            return Err(self.lacks("what its device is like (VHOST_USER_PROTOCOL_F_CONFIG)"));
        }
        self.exchange("its configuration", |daemon| {
            let room = vec![0; size as usize];
            Ok(daemon.get_config(0, size, VhostUserConfigFlags::empty(), &room)?.1)
        })
    }

    fn lacks(&self, missing: &'static str) -> DaemonError {
        DaemonError::Lacks { path: self.path.clone(), missing }
    }

    /// Gives the daemon so much time for each answer from now on.
    pub(super) fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Virtio features that the daemon offers.
    pub(super) fn offered(&self) -> u64 {
        self.offered
    }

    /// Whether an extension of the protocol is in use.
    pub(super) fn has(&self, feature: VhostUserProtocolFeatures) -> bool {
        self.protocol.contains(feature)
    }

    /// How many queues it serves.
    pub(super) fn queues(&self) -> u64 {
        self.queues
    }

    /// Whether the daemon is still there, and silent as it has to be when nobody asks.
    pub(super) fn is_quiet(&self) -> bool {
        let mut byte = [0_u8];
        recv(&*self.stream, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT).err() == Some(Errno::AGAIN)
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl AsRawFd for Link {
    fn as_raw_fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }
}

/// Connects without waiting for a listener that takes nobody.
fn dial(path: &Path) -> Result<UnixStream, Errno> {
    let address = SocketAddrUnix::new(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &address)?;
    rustix::io::ioctl_fionbio(&socket, false)?;
    Ok(UnixStream::from(socket))
}

/// A thread that shuts a connection down if it is not told in time that this is not needed. The crate goes on waiting after a
/// timeout of the socket's own, and each byte would begin a new one.
struct Deadline {
    lifted: Arc<AtomicBool>,
    thread: JoinHandle<bool>,
}

impl Deadline {
    fn set(stream: &Arc<UnixStream>, patience: Duration) -> io::Result<Self> {
        let (lifted, stream, until) =
            (Arc::new(AtomicBool::new(false)), Arc::clone(stream), Instant::now() + patience);
        let seen = Arc::clone(&lifted);
        let watch = move || {
            while !seen.load(Ordering::Acquire) {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    // What cannot be shut down is closed already.
                    let _ = stream.shutdown(Shutdown::Both);
                    return true;
                }
                thread::park_timeout(left);
            }
            false
        };
        let thread = thread::Builder::new().name("vhost-deadline".to_owned()).spawn(watch)?;
        Ok(Self { lifted, thread })
    }

    /// Whether it was missed.
    fn lift(self) -> bool {
        self.lifted.store(true, Ordering::Release);
        self.thread.thread().unpark();
        self.thread.join().unwrap_or(false)
    }
}
