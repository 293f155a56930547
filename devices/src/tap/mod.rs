//! Taps: network interfaces of the host whose other end is a file of ours (Documentation/networking/tuntap.rst).
//!
//! A tap has queues, each an open /dev/net/tun. What is read and written there are Ethernet frames behind the header of
//! virtio (virtio 1.3 §5.1.6), so a driver's buffers go to the kernel as they are, and the kernel checks what is in them.

mod error;
mod handed;
mod monitor;
mod sys;

use std::ffi::c_int;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use libc::{IFF_MULTI_QUEUE, IFF_NO_PI, IFF_TAP, IFF_VNET_HDR};
use rustix::event::{PollFd, PollFlags, Timespec};
use vm_memory::VolatileSlice;

pub use error::TapError;
pub use handed::HandedTap;
pub use monitor::LinkMonitor;

/// Bytes of the header before each frame: `struct virtio_net_hdr_v1`.
pub const HEADER: usize = 12;
/// Largest frame with its header: what the length of an IP packet can say, behind an Ethernet header with a VLAN tag.
pub const MOST_FRAME: usize = HEADER + 18 + 65535;
/// Most pieces of memory that a frame is taken from or given to (UIO_MAXIOV).
pub const MOST_SLICES: usize = 1024;
/// Smallest MTU (virtio 1.3 §5.1.4).
pub const LEAST_MTU: u16 = 68;
/// Largest MTU of a tap (drivers/net/tun.c: 65535 less an Ethernet header).
pub const MOST_MTU: u16 = 65521;
/// Queues a tap may have (drivers/net/tun.c: MAX_TAP_QUEUES).
pub const MOST_QUEUES: u16 = 256;

const NODE: &str = "/dev/net/tun";
const FLAGS: c_int = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;

/// What the reader of a tap takes besides whole, checksummed frames of the MTU's size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offloads {
    /// Checksums that are yet to be made.
    pub checksum: bool,
    /// TCP segments over IPv4 larger than the MTU.
    pub tso4: bool,
    /// The same over IPv6.
    pub tso6: bool,
    /// Such segments with ECN.
    pub ecn: bool,
    /// UDP datagrams yet to be cut into fragments.
    pub ufo: bool,
    /// UDP datagrams yet to be cut into datagrams.
    pub uso: bool,
}

impl Offloads {
    /// TUN_F_*. All of them build on that of checksums.
    fn flags(self) -> u32 {
        if !self.checksum {
            return 0;
        }
        let bit = |on: bool, bit: u32| if on { bit } else { 0 };
        libc::TUN_F_CSUM
            | bit(self.tso4, libc::TUN_F_TSO4)
            | bit(self.tso6, libc::TUN_F_TSO6)
            | bit(self.ecn && (self.tso4 || self.tso6), libc::TUN_F_TSO_ECN)
            | bit(self.ufo, libc::TUN_F_UFO)
            | bit(self.uso, libc::TUN_F_USO4 | libc::TUN_F_USO6)
    }
}

/// A queue of a tap, or whatever else takes frames behind headers.
#[derive(Debug)]
pub struct TapQueue(File);

impl TapQueue {
    /// A queue that is a datagram socket, whose other end takes and gives frames as a tap does.
    ///
    /// # Errors
    /// It cannot be made not to block.
    pub fn socket(socket: std::os::unix::net::UnixDatagram) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self(File::from(std::os::fd::OwnedFd::from(socket))))
    }

    /// Takes the next frame into `slices`, and what they have no room for into `rest`; gives its bytes. Fewer than
    /// [`MOST_SLICES`].
    ///
    /// # Errors
    /// `WouldBlock`: there is none. EBADFD: the tap is gone.
    pub fn receive(&self, slices: &[VolatileSlice<'_>], rest: &mut [u8]) -> io::Result<usize> {
        sys::read(self, slices, rest)
    }

    /// Sends a frame, in up to [`MOST_SLICES`] pieces.
    ///
    /// # Errors
    /// `WouldBlock`: the tap is full. EBADFD: the tap is gone. Anything else: the kernel does not take this frame.
    pub fn send(&self, slices: &[VolatileSlice<'_>]) -> io::Result<()> {
        sys::write(self, slices).map(drop)
    }

    /// Whether the tap was removed.
    pub fn is_gone(&self) -> bool {
        let mut poll = [PollFd::new(&self.0, PollFlags::empty())];
        let said = rustix::event::poll(&mut poll, Some(&Timespec::default()));
        said.is_ok() && poll.iter().any(|it| it.revents().contains(PollFlags::ERR))
    }

    /// Its file.
    pub fn file(&self) -> &File {
        &self.0
    }
}

impl AsRawFd for TapQueue {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Whether this is what the kernel says of a tap that was removed.
pub fn is_gone(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EBADFD)
}

/// A tap with its queues.
#[derive(Debug)]
pub struct Tap {
    name: String,
    queues: Vec<TapQueue>,
    multi: bool,
    mtu: u16,
    has_uso: bool,
}

/// How a tap is to be had.
#[derive(Clone, Debug, Default)]
pub struct TapOptions {
    /// Its name.
    pub name: String,
    /// Make it if there is none; it goes when it is closed.
    pub create: bool,
    /// Its queues. `None`: as many as `most_queues`, if it can have several.
    pub queues: Option<u16>,
    /// How many queues are of use.
    pub most_queues: u16,
    /// Its MTU. `None`: as it is.
    pub mtu: Option<u16>,
}

impl Tap {
    /// Opens a tap.
    ///
    /// # Errors
    /// There is none, it is not ours, another process has it, or it cannot do what is asked for.
    pub fn open(options: &TapOptions) -> Result<Self, TapError> {
        let name = options.name.as_str();
        check_name(name)?;
        let existing = existing(name)?;
        let usual = options.most_queues.clamp(1, MOST_QUEUES);
        let (multi, queues) = match (existing, options.queues) {
            (None, _) if !options.create => return Err(TapError::Missing(name.to_owned())),
            (None, queues) => (true, queues.unwrap_or(usual)),
            (Some(Existing { multi: true }), queues) => (true, queues.unwrap_or(usual)),
            (Some(Existing { multi: false }), None | Some(1)) => (false, 1),
            (Some(Existing { multi: false }), Some(queues)) => {
                return Err(TapError::SingleQueue { name: name.to_owned(), queues });
            }
        };
        let flags = FLAGS | if multi { IFF_MULTI_QUEUE } else { 0 };
        let attach = |_| {
            let file = open_node()?;
            sys::attach(&file, name, flags).map_err(|error| refusal(name, existing.is_some(), error))?;
            Ok(TapQueue(file))
        };
        let queues = (0..queues).map(attach).collect::<Result<Vec<_>, _>>()?;
        let tap = Self::set_up(name.to_owned(), queues, multi, options.mtu)?;
        if multi && queue_count(name).is_some_and(|count| count > tap.queues.len()) {
            return Err(TapError::InUse(name.to_owned()));
        }
        if existing.is_none() {
            sys::set_up(name).map_err(set_up(name, "it cannot be brought up"))?;
        } else if !sys::is_up(name).unwrap_or(true) {
            tracing::warn!(tap = name, "the tap is down: nothing passes until `ip link set {name} up`");
        }
        Ok(tap)
    }

    fn set_up(name: String, queues: Vec<TapQueue>, multi: bool, mtu: Option<u16>) -> Result<Self, TapError> {
        let Some(TapQueue(first)) = queues.first() else { return Err(TapError::Missing(name)) };
        sys::set_header_size(first, HEADER as c_int).map_err(set_up(&name, "its header cannot be set"))?;
        let uso = Offloads { checksum: true, uso: true, ..Offloads::default() };
        // Since Linux 6.2.
        let has_uso = sys::set_offloads(first, uso.flags()).is_ok();
        sys::set_offloads(first, 0).map_err(set_up(&name, "its offloads cannot be set"))?;
        let is = sys::mtu(&name).map_err(set_up(&name, "its MTU cannot be read"))?;
        if let Some(mtu) = mtu.filter(|mtu| c_int::from(*mtu) != is) {
            sys::set_mtu(&name, mtu.into()).map_err(|source| TapError::Mtu {
                name: name.clone(),
                mtu,
                source,
            })?;
        }
        let mtu = mtu.or_else(|| u16::try_from(is).ok()).filter(|mtu| (LEAST_MTU..=MOST_MTU).contains(mtu));
        let mtu = mtu.ok_or_else(|| TapError::OddMtu { name: name.clone(), mtu: is.into() })?;
        Ok(Self { name, queues, multi, mtu, has_uso })
    }
}

/// What a card has at its other end.
pub trait Link: Send + Sync {
    /// What the host calls it.
    fn name(&self) -> &str;
    /// Its queues, at least one.
    fn queues(&self) -> &[TapQueue];
    /// Largest payload of a frame, in bytes.
    fn mtu(&self) -> u16;
    /// Whether [`Offloads::uso`] can be.
    fn has_uso(&self) -> bool;
    /// From now on frames may be so.
    ///
    /// # Errors
    /// The kernel refuses.
    fn set_offloads(&self, offloads: Offloads) -> io::Result<()>;
    /// From now on frames come on the first `count` queues only.
    ///
    /// # Errors
    /// The kernel refuses.
    fn use_queues(&self, count: usize) -> io::Result<()>;
}

impl Link for Tap {
    fn name(&self) -> &str {
        &self.name
    }

    fn queues(&self) -> &[TapQueue] {
        &self.queues
    }

    fn mtu(&self) -> u16 {
        self.mtu
    }

    fn has_uso(&self) -> bool {
        self.has_uso
    }

    fn set_offloads(&self, offloads: Offloads) -> io::Result<()> {
        self.queues.first().map_or(Ok(()), |queue| sys::set_offloads(&queue.0, offloads.flags()))
    }

    fn use_queues(&self, count: usize) -> io::Result<()> {
        if !self.multi {
            return Ok(());
        }
        for (index, queue) in self.queues.iter().enumerate() {
            match sys::enable_queue(&queue.0, index < count) {
                // It is so already.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
                changed => changed?,
            }
        }
        Ok(())
    }
}

/// For use in `map_err`.
fn set_up(name: &str, step: &'static str) -> impl Fn(io::Error) -> TapError {
    move |source| TapError::SetUp { name: name.to_owned(), step, source }
}

/// What there is under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Existing {
    multi: bool,
}

/// Names that the kernel takes (net/core/dev.c: dev_valid_name), without its `%d`.
fn check_name(name: &str) -> Result<(), TapError> {
    let odd = |byte: u8| matches!(byte, b'/' | b':' | b'%') || byte.is_ascii_whitespace() || byte == 0;
    if name.is_empty() || name.len() > 15 || name == "." || name == ".." || name.bytes().any(odd) {
        return Err(TapError::Name(name.to_owned()));
    }
    Ok(())
}

fn existing(name: &str) -> Result<Option<Existing>, TapError> {
    let interface = Path::new("/sys/class/net").join(name);
    if !interface.exists() {
        return Ok(None);
    }
    let flags = fs::read_to_string(interface.join("tun_flags")).ok();
    let flags = flags
        .as_deref()
        .and_then(|text| c_int::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok());
    match flags {
        Some(flags) if flags & IFF_TAP != 0 => Ok(Some(Existing { multi: flags & IFF_MULTI_QUEUE != 0 })),
        _ => Err(TapError::NotTap(name.to_owned())),
    }
}

/// How many queues all processes together have of it.
fn queue_count(name: &str) -> Option<usize> {
    let entries = fs::read_dir(Path::new("/sys/class/net").join(name).join("queues")).ok()?;
    Some(entries.flatten().filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b"rx-")).count())
}

fn open_node() -> Result<File, TapError> {
    let open = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(NODE);
    open.map_err(|error| match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => TapError::NoDriver(error),
        _ => TapError::Driver(error),
    })
}

fn refusal(name: &str, exists: bool, error: io::Error) -> TapError {
    let name = name.to_owned();
    match error.raw_os_error() {
        Some(libc::EBUSY) => TapError::InUse(name),
        Some(libc::EPERM) if exists => TapError::NotOurs(name),
        Some(libc::EPERM) => TapError::NotAllowed(name),
        _ => TapError::SetUp { name, step: "the kernel does not attach it", source: error },
    }
}

#[cfg(test)]
#[path = "tap_test.rs"]
mod tests;
