//! The pin helper itself: maps the memfd, confines itself, then pins what it is asked to until its parent is gone.
//!
//! # Unsafe
//! `prctl` and `close_range`, which take plain numbers.
#![expect(unsafe_code, reason = "prctl, close_range")]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::net::{RecvFlags, SendFlags};

use super::protocol::{Lack, REQUEST_SIZE, Reply, Request};
use super::{NAME, filter, protocol};
use crate::pin::trial::{Pinner, TrialRing, TrialUnavailable};
use crate::pin::udmabuf::Udmabuf;
use crate::ram::FileMapping;

/// Runs the helper, given the arguments its parent appended; returns when the parent is gone. The socket is standard
/// input, the memfd standard output.
///
/// # Errors
/// It was not started by a monitor, or the kernel does not let it set itself up. Its parent has been told, if there
/// is one.
pub fn serve(arguments: &[String]) -> io::Result<()> {
    die_with_parent()?;
    let stdin = io::stdin();
    let socket = stdin.as_fd();
    let pinner = set_up(arguments, File::from(io::stdout().as_fd().try_clone_to_owned()?));
    let mut pinner = match pinner {
        Ok(pinner) => pinner,
        Err(reason) => {
            say(socket, Reply::Unavailable(Lack::new(&reason)))?;
            return Err(io::Error::other(reason.to_string()));
        }
    };
    if let Err(error) = filter::apply() {
        let lack = TrialUnavailable::Refused { source: io::Error::from_raw_os_error(libc::ENOSYS) };
        say(socket, Reply::Unavailable(Lack::new(&lack)))?;
        return Err(io::Error::other(error));
    }
    say(socket, Reply::Ready)?;
    let mut bytes = [0; REQUEST_SIZE];
    loop {
        let (_, length) = rustix::net::recv(socket, &mut bytes, RecvFlags::empty())?;
        if length == 0 {
            return Ok(());
        }
        let request = bytes.get(..length).and_then(protocol::Request::decode);
        let request = request.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        say(socket, pinner.answer(&request))?;
    }
}

/// What holds the pins.
enum Holder {
    IoUring(Box<TrialRing>),
    Udmabuf(Udmabuf),
}

struct Server {
    mapping: FileMapping,
    holder: Holder,
    used: Vec<u32>,
}

impl Server {
    fn answer(&mut self, request: &Request) -> Reply {
        let pinned = match *request {
            Request::Release => {
                self.release();
                return Reply::Done;
            }
            Request::Pin { slot, offset, size } => self.pin(slot, offset, size),
        };
        match pinned {
            Ok(()) => Reply::Done,
            Err(error) => Reply::Refused(error.raw_os_error().unwrap_or(libc::EINVAL)),
        }
    }

    fn pin(&mut self, slot: u32, offset: u64, size: u64) -> io::Result<()> {
        let inside = offset.checked_add(size).is_some_and(|end| end <= self.mapping.size());
        if !inside {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        match &mut self.holder {
            Holder::IoUring(ring) => {
                self.mapping.show(offset, size);
                ring.pin(slot, self.mapping.hva() + offset, size)?;
            }
            Holder::Udmabuf(udmabuf) => udmabuf.pin(self.mapping.file(), offset, size)?,
        }
        self.used.push(slot);
        Ok(())
    }

    fn release(&mut self) {
        match &mut self.holder {
            Holder::IoUring(ring) => self.used.drain(..).for_each(|slot| ring.release(slot)),
            Holder::Udmabuf(udmabuf) => udmabuf.release(),
        }
        self.used.clear();
    }
}

fn set_up(arguments: &[String], memfd: File) -> Result<Server, TrialUnavailable> {
    let odd = |how: &str| TrialUnavailable::NoHelper { how: how.to_owned() };
    let [pinner, slots] = arguments else { return Err(odd("takes two arguments")) };
    let slots: u32 = slots.parse().map_err(|_| odd("takes a number of slots"))?;
    let mapping = FileMapping::new(memfd).map_err(|error| odd(&error.to_string()))?;
    let holder = match Pinner::from_argument(pinner) {
        Some(Pinner::HelperIoUring) => Holder::IoUring(Box::new(TrialRing::new(slots)?)),
        Some(Pinner::HelperUdmabuf) => Holder::Udmabuf(Udmabuf::open()?),
        _ => return Err(odd("knows no such pinner")),
    };
    Ok(Server { mapping, holder, used: Vec::new() })
}

fn say(socket: BorrowedFd, reply: Reply) -> io::Result<()> {
    rustix::net::send(socket, &reply.encode(), SendFlags::NOSIGNAL)?;
    Ok(())
}

/// A name of its own; SIGKILL when the thread that started us ends; nothing else of its files stays open.
fn die_with_parent() -> io::Result<()> {
    // SAFETY: the calls take numbers and a literal, and nothing of ours is open yet but the standard streams.
    let done = unsafe {
        libc::prctl(libc::PR_SET_NAME, NAME.as_ptr()) == 0
            && libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) == 0
            && (libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) == 0
                || io::Error::last_os_error().raw_os_error() == Some(libc::ENOSYS))
    };
    if done { Ok(()) } else { Err(io::Error::last_os_error()) }
}
