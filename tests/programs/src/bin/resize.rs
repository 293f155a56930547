//! Has a network card make all its rings anew, with so many entries each: `resize NAME ENTRIES`. A virtio card's queues are reset one by
//! one for that (VIRTIO_F_RING_RESET), while its driver goes on.
//!
//! # Unsafe
//!
//! A socket, and an ioctl that is given one `ifreq`, which points to one `ethtool_ringparam` (linux/ethtool.h).
#![expect(unsafe_code, reason = "ioctls")]
#![expect(clippy::print_stderr, reason = "a test program")]

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::process::ExitCode;

const SIOCETHTOOL: libc::Ioctl = 0x8946;
const ETHTOOL_GRINGPARAM: u32 = 0x10;
const ETHTOOL_SRINGPARAM: u32 = 0x11;

/// `struct ethtool_ringparam`.
#[repr(C)]
#[derive(Default)]
struct Rings {
    command: u32,
    most: [u32; 4],
    receive: u32,
    receive_mini: u32,
    receive_jumbo: u32,
    transmit: u32,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words[..] {
        [name, entries] => {
            entries.parse().map_err(io::Error::other).and_then(|entries| resize(name, entries))
        }
        _ => Err(io::Error::other("resize NAME ENTRIES")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("resize: {error}");
            ExitCode::FAILURE
        }
    }
}

fn resize(name: &str, entries: u32) -> io::Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    let mut rings = Rings { command: ETHTOOL_GRINGPARAM, ..Rings::default() };
    ask(&socket, name, &mut rings)?;
    (rings.command, rings.receive, rings.transmit) = (ETHTOOL_SRINGPARAM, entries, entries);
    ask(&socket, name, &mut rings)
}

fn ask(socket: &UdpSocket, name: &str, rings: &mut Rings) -> io::Result<()> {
    // SAFETY: the structure is made of integers and arrays of them, and of a union of such and pointers.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let bytes = name.bytes().take(libc::IFNAMSIZ - 1);
    request.ifr_name.iter_mut().zip(bytes).for_each(|(to, from)| *to = from.cast_signed());
    request.ifr_ifru.ifru_data = (&raw mut *rings).cast();
    // SAFETY: the kernel reads one ifreq, and reads and writes one ethtool_ringparam, both of which live through the call.
    match unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
