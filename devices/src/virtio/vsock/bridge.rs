//! The host's end of all connections: Unix sockets on one side, packets on the other. It knows no queues.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use super::connection::{Connection, Verdict};
use super::greeting::{Client, Wish};
use super::packet::{HOST_CID, Header, Op, Ports, SIZE, STREAM};
use crate::virtio::{Chain, RingError};

/// Connections at a time, those included that are being made. More clients wait, and more of the guest's are refused.
pub(super) const MOST: usize = 1024;
/// Resets that the guest has not taken yet. With more of them nothing is taken from it either.
const MOST_REPLIES: usize = 256;
/// Events at a time.
const PORTION: usize = 64;
/// Time for a client to say what it wants, and for the guest to answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it is looked who has run out of it.
const TICK: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };
const NEVER: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
/// Ports that clients of the host get, which nobody serves.
const FIRST_PORT: u32 = 1 << 30;

const LISTENER: u64 = 0;
const TIMER: u64 = 1;
const FIRST_CONNECTION: u64 = 2;

/// The ports that clients of the host get, in turn.
///
/// They go on when the driver is bound anew: Linux may then still hold a socket of a connection from before (it gives one that
/// it closed 8 s to be answered, `VSOCK_CLOSE_TIMEOUT` in net/vmw_vsock/virtio_transport_common.c), and the reset that it
/// sends for it in the end must not meet another connection.
#[derive(Debug, Default)]
pub(super) struct HostPorts(AtomicU32);

impl HostPorts {
    fn next(&self) -> u32 {
        FIRST_PORT + self.0.fetch_add(1, Ordering::Relaxed) % FIRST_PORT
    }
}

/// All connections of one guest.
pub(super) struct Bridge {
    cid: u64,
    listener: UnixListener,
    /// What the guest's connections lead to is this, an underscore and the port.
    path: PathBuf,
    epoll: OwnedFd,
    timer: OwnedFd,
    /// By the number that their events carry, which is not used again.
    clients: BTreeMap<u64, Client>,
    connections: BTreeMap<u64, Connection>,
    /// Those that the guest knows of.
    by_ports: BTreeMap<Ports, u64>,
    /// Those that have something for the guest, each served in its turn.
    ready: VecDeque<u64>,
    replies: VecDeque<Header>,
    next_number: u64,
    host_ports: Arc<HostPorts>,
    /// More clients may be waiting; or they are, and the host has no descriptor for them.
    acceptable: bool,
    starved: bool,
}

impl Bridge {
    /// Takes clients from `listener`, which is at `path`.
    pub(super) fn new(
        cid: u64,
        listener: UnixListener,
        path: &Path,
        host_ports: Arc<HostPorts>,
    ) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let timer =
            timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        listener.set_nonblocking(true)?;
        epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN | EventFlags::ET)?;
        epoll::add(&epoll, &timer, EventData::new_u64(TIMER), EventFlags::IN)?;
        Ok(Self {
            cid,
            listener,
            path: path.to_owned(),
            epoll,
            timer,
            clients: BTreeMap::new(),
            connections: BTreeMap::new(),
            by_ports: BTreeMap::new(),
            ready: VecDeque::new(),
            replies: VecDeque::new(),
            next_number: FIRST_CONNECTION,
            host_ports,
            acceptable: false,
            starved: false,
        })
    }

    /// Readable when [`Bridge::poll`] is to be called.
    pub(super) fn event(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    /// Whether nothing may be taken from the guest until it takes something.
    pub(super) fn is_full(&self) -> bool {
        self.replies.len() >= MOST_REPLIES
    }

    /// Whether there is something for the guest, as far as is known.
    pub(super) fn has_packets(&self) -> bool {
        !self.replies.is_empty() || !self.ready.is_empty()
    }

    /// Takes a packet from the guest.
    pub(super) fn receive(&mut self, chain: &Chain) -> Result<(), RingError> {
        let header = Header::read(chain).ok_or(RingError::Request("vsock packet"))?;
        if u64::from(header.length) > chain.readable_bytes() - SIZE as u64 {
            return Err(RingError::Request("vsock packet"));
        }
        if header.from_cid != self.cid {
            tracing::debug!(cid = header.from_cid, "a guest sends packets in another's name");
            return Ok(());
        }
        let ports = header.ports();
        let known = header.to_cid == HOST_CID && header.kind == STREAM;
        match self.by_ports.get(&ports).copied().filter(|_| known) {
            Some(number) => {
                let Some(connection) = self.connections.get_mut(&number) else { return Ok(()) };
                match connection.receive(&header, chain)? {
                    Verdict::Stays => self.settle(number),
                    Verdict::Ends => self.leave(number),
                    Verdict::Refused => {
                        self.leave(number);
                        self.replies.push_back(header.reset_reply());
                    }
                }
            }
            None if known && header.op == Op::Request => match self.reach(&header) {
                Ok(()) => {}
                Err(error) => {
                    tracing::debug!(port = ports.host, %error, "the guest connects to a port that nobody serves");
                    self.replies.push_back(header.reset_reply());
                }
            },
            // What is late in a connection that has ended is no matter.
            None if known && matches!(header.op, Op::Reset | Op::CreditUpdate | Op::CreditRequest) => {}
            None if header.op == Op::Reset => {}
            None => self.replies.push_back(header.reset_reply()),
        }
        Ok(())
    }

    /// Writes the next packet to `chain`, if there is one; gives the bytes written.
    pub(super) fn fill(&mut self, chain: &Chain) -> Result<Option<u32>, RingError> {
        if chain.writable_bytes() <= SIZE as u64 {
            return Err(RingError::Request("buffer for vsock packets"));
        }
        if let Some(reply) = self.replies.pop_front() {
            chain.writer().write_all(&reply.to_bytes()).map_err(RingError::Access)?;
            return Ok(Some(SIZE as u32));
        }
        while let Some(number) = self.ready.pop_front() {
            let Some(connection) = self.connections.get_mut(&number) else { continue };
            connection.queued = false;
            let filled = connection.fill(self.cid, chain)?;
            self.settle(number);
            if filled.is_some() {
                return Ok(filled);
            }
        }
        Ok(None)
    }

    /// Hears what has become possible on the host's side.
    pub(super) fn poll(&mut self) -> io::Result<()> {
        let mut events = Vec::with_capacity(PORTION);
        let spare = spare_capacity(&mut events);
        match epoll::wait(&self.epoll, spare, Some(&NEVER)) {
            Err(rustix::io::Errno::INTR) => return Ok(()),
            polled => polled?,
        };
        for Event { flags, data } in events {
            match data.u64() {
                LISTENER => self.acceptable = true,
                TIMER => self.tick()?,
                number if self.clients.contains_key(&number) => self.listen(number),
                number => {
                    if let Some(connection) = self.connections.get_mut(&number) {
                        connection.polled(
                            flags.intersects(EventFlags::IN | EventFlags::RDHUP),
                            flags.contains(EventFlags::OUT),
                            flags.intersects(EventFlags::HUP | EventFlags::ERR),
                        );
                        self.settle(number);
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes clients as long as there is room for them.
    pub(super) fn accept(&mut self) -> io::Result<()> {
        while self.acceptable && self.has_room() {
            match self.listener.accept() {
                Ok((stream, _)) => match self.watch(&stream) {
                    Ok(number) => {
                        self.clients.insert(number, Client::new(stream, Instant::now() + PATIENCE));
                        self.start_ticking()?;
                        self.listen(number);
                    }
                    Err(error) => tracing::warn!(%error, "a client of the vsock is sent away"),
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.acceptable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    // It is tried again with the next tick.
                    tracing::warn!(%error, "clients of the vsock have to wait");
                    (self.acceptable, self.starved) = (false, true);
                    self.start_ticking()?;
                }
            }
        }
        Ok(())
    }

    fn has_room(&self) -> bool {
        self.clients.len() + self.connections.len() < MOST
    }

    /// Has events of `stream` carry the number that is returned.
    fn watch(&mut self, stream: &UnixStream) -> io::Result<u64> {
        stream.set_nonblocking(true)?;
        let number = self.next_number;
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.epoll, stream, EventData::new_u64(number), flags)?;
        self.next_number += 1;
        Ok(number)
    }

    /// Hears what a client says.
    fn listen(&mut self, number: u64) {
        match self.clients.get_mut(&number).map(Client::listen) {
            None | Some(Wish::Unsaid) => {}
            Some(Wish::Nonsense) => drop(self.clients.remove(&number)),
            Some(Wish::Port(guest)) => {
                let Some(client) = self.clients.remove(&number) else { return };
                let ports = Ports { host: self.free_port(guest), guest };
                let until = Instant::now() + PATIENCE;
                self.connect(number, Connection::from_host(client.into_stream(), ports, until));
            }
        }
    }

    /// A port of the host that has no connection to this port of the guest. There are more ports than connections.
    fn free_port(&self, guest: u32) -> u32 {
        loop {
            let host = self.host_ports.next();
            if !self.by_ports.contains_key(&Ports { host, guest }) {
                return host;
            }
        }
    }

    /// Connects to the socket that the guest asks for.
    fn reach(&mut self, request: &Header) -> io::Result<()> {
        if !self.has_room() {
            return Err(io::Error::other("there are too many connections"));
        }
        let mut path = self.path.clone().into_os_string();
        path.push(format!("_{}", request.to_port));
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        // Unix sockets connect at once or not at all.
        connect(&socket, &SocketAddrUnix::new(path)?)?;
        let stream = UnixStream::from(socket);
        let number = self.watch(&stream)?;
        self.connect(number, Connection::from_guest(stream, request));
        Ok(())
    }

    fn connect(&mut self, number: u64, connection: Connection) {
        self.by_ports.insert(connection.ports, number);
        self.connections.insert(number, connection);
        self.settle(number);
    }

    /// Has a connection take its turn if it has something for the guest, and forgets it if it is over.
    fn settle(&mut self, number: u64) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        if connection.is_over() {
            self.forget(number);
        } else if connection.has_packet() && !connection.queued {
            connection.queued = true;
            self.ready.push_back(number);
        }
    }

    /// The guest has done with a connection. What it sent before is still written.
    fn leave(&mut self, number: u64) {
        if let Some(draining) = self.forget(number).and_then(Connection::drain) {
            self.connections.insert(number, draining);
        }
    }

    fn forget(&mut self, number: u64) -> Option<Connection> {
        let connection = self.connections.remove(&number)?;
        // A connection that is drained has no ports any more; another may have them.
        if self.by_ports.get(&connection.ports) == Some(&number) {
            self.by_ports.remove(&connection.ports);
        }
        Some(connection)
    }

    /// Gives up whoever took too long.
    fn tick(&mut self) -> io::Result<()> {
        let _ = rustix::io::read(&self.timer, &mut [0; 8]);
        let now = Instant::now();
        self.acceptable |= std::mem::take(&mut self.starved);
        self.clients.retain(|_, client| !client.is_overdue(now));
        let late: Vec<u64> =
            self.connections.iter().filter(|(_, it)| it.is_overdue(now)).map(|(number, _)| *number).collect();
        late.into_iter().for_each(|number| drop(self.forget(number)));
        if self.clients.is_empty() && !self.connections.values().any(Connection::is_asked) {
            self.set_timer(NEVER)?;
        }
        Ok(())
    }

    fn start_ticking(&self) -> io::Result<()> {
        self.set_timer(TICK)
    }

    fn set_timer(&self, every: Timespec) -> io::Result<()> {
        let spec = Itimerspec { it_interval: every, it_value: every };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &spec)?;
        Ok(())
    }
}
