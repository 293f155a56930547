//! Taps, of which busybox knows nothing.
//!
//! - `tap NAME [multi_queue]`: makes one that stays, for root alone.
//! - `tap NAME exec COMMAND..`: runs a command that has a queue of it as descriptor 3.
//!
//! # Unsafe
//!
//! The ioctls of /dev/net/tun (linux/if_tun.h), each of which passes a number or one `ifreq`.
#![expect(unsafe_code, reason = "ioctls")]
#![expect(clippy::print_stderr, reason = "a test program")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use libc::{IFF_MULTI_QUEUE, IFF_NO_PI, IFF_TAP, IFF_VNET_HDR};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let made = match words[..] {
        [name] => make(name, 0),
        [name, "multi_queue"] => make(name, IFF_MULTI_QUEUE),
        [name, "exec", command, ref arguments @ ..] => hand(name, Command::new(command).args(arguments)),
        _ => Err(io::Error::other("tap NAME [multi_queue | exec COMMAND..]")),
    };
    match made {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tap: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The descriptor that the command has.
const HANDED: i32 = 3;

fn make(name: &str, more: i32) -> io::Result<()> {
    let tun = attach(name, more)?;
    set(&tun, libc::TUNSETOWNER, 0)?;
    set(&tun, libc::TUNSETPERSIST, 1)
}

fn hand(name: &str, command: &mut Command) -> io::Result<()> {
    let tun = attach(name, 0)?;
    // SAFETY: descriptor 3 is nobody's, or that of `tun`, which is not used any more.
    check(unsafe { libc::dup2(tun.as_raw_fd(), HANDED) })?;
    if tun.as_raw_fd() == HANDED {
        // SAFETY: passes a number.
        check(unsafe { libc::fcntl(HANDED, libc::F_SETFD, 0) })?;
    }
    Err(command.exec())
}

/// A queue of the tap.
fn attach(name: &str, more: i32) -> io::Result<File> {
    let tun = OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
    // SAFETY: the structure is made of integers and arrays of them, and of a union of such.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let bytes = name.bytes().take(libc::IFNAMSIZ - 1);
    request.ifr_name.iter_mut().zip(bytes).for_each(|(to, from)| *to = from.cast_signed());
    request.ifr_ifru.ifru_flags = (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | more) as i16;
    // SAFETY: the kernel reads and writes one ifreq.
    check(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF, &mut request) })?;
    Ok(tun)
}

fn set(tun: &File, what: libc::Ioctl, value: libc::c_ulong) -> io::Result<()> {
    // SAFETY: passes a number.
    check(unsafe { libc::ioctl(tun.as_raw_fd(), what, value) })
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
