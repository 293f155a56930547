//! Takes the lab's requests from the virtio-serial port and hands each command to a session.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{self, AddressFamily, RecvFlags, SocketFlags, SocketType};

use super::session::Session;
use crate::wire::{self, Frame, Ready};

/// How long the kernel may take to bring up the port.
const PORT_DEADLINE: Duration = Duration::from_secs(60);
/// The netlink group of the kernel's own events.
const KERNEL_EVENTS: u32 = 1;

/// The port's sending side, shared by all sessions.
#[derive(Clone)]
pub(super) struct Port(Arc<Mutex<File>>);

impl Port {
    /// Sends a frame. A port that fails means that the lab is gone, and the host goes with it.
    pub(super) fn send(&self, session: u32, frame: &Frame) {
        let mut port = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(e) = wire::send(&mut *port, session, frame) {
            eprintln!("lab agent: the port fails: {e}");
            std::process::exit(1);
        }
    }
}

/// Serves requests until the lab is gone.
pub(super) fn run(problems: Vec<String>) -> io::Result<()> {
    let path = wait_for_port()?;
    let port = File::options().read(true).write(true).open(path)?;
    let mut requests = BufReader::new(port.try_clone()?);
    let port = Port(Arc::new(Mutex::new(port)));
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    port.send(0, &Frame::Ready(Ready { release, problems }));

    let mut sessions: HashMap<u32, Session> = HashMap::new();
    while let Some((id, frame)) = wire::receive(&mut requests)? {
        if let Frame::Exec(request) = frame {
            sessions.retain(|_, session| !session.is_over());
            if let Some(session) = Session::start(id, &request, &port) {
                sessions.insert(id, session);
            }
        } else if let Some(session) = sessions.get(&id) {
            // Of a session that is over, frames may still be under way: they are late, not wrong.
            session.take(frame);
        }
    }
    Ok(())
}

/// The port's device node. The driver adds ports in its own time, after init has started.
fn wait_for_port() -> io::Result<PathBuf> {
    // Kernel objects announce themselves on this socket; a device's node is there before its event.
    let events = net::socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        Some(KOBJECT_UEVENT),
    )?;
    net::bind(&events, &SocketAddrNetlink::new(0, KERNEL_EVENTS))?;
    let deadline = Instant::now() + PORT_DEADLINE;
    loop {
        if let Some(path) = find_port()? {
            return Ok(path);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        let mut ready = [PollFd::new(&events, PollFlags::IN)];
        if rustix::event::poll(&mut ready, Some(&timeout))? == 0 {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "no virtio-serial port named agent came up"));
        }
        match net::recv(&events, &mut [0; 4096], RecvFlags::empty()) {
            // Lost events are as good as one: the port is looked for anyway.
            Ok(_) | Err(rustix::io::Errno::NOBUFS) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

fn find_port() -> io::Result<Option<PathBuf>> {
    let Ok(ports) = fs::read_dir("/sys/class/virtio-ports") else { return Ok(None) };
    for port in ports {
        let port = port?;
        let name = fs::read_to_string(port.path().join("name")).unwrap_or_default();
        let node = PathBuf::from("/dev").join(port.file_name());
        if name.trim() == wire::PORT && node.exists() {
            return Ok(Some(node));
        }
    }
    Ok(None)
}
