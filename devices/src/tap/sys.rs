//! The kernel's interface to taps (linux/if_tun.h, Documentation/networking/tuntap.rst) and to the settings of network
//! interfaces (netdevice(7)): one thin function a call, each returning the errno.
//!
//! # Unsafe
//!
//! Every ioctl here passes a number, or memory that lives through the call and has the size that the kernel reads and writes.
//! The vectored calls pass slices of guest memory, which are mapped as long as they are borrowed.
#![expect(unsafe_code, reason = "ioctls, readv and writev")]

use std::ffi::{c_int, c_short, c_uint, c_ulong};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use libc::{IFF_ATTACH_QUEUE, IFF_DETACH_QUEUE, IFF_UP, IFNAMSIZ, ifreq};
use vm_memory::VolatileSlice;
use vmm_sys_util::ioctl::{ioctl_with_mut_ref, ioctl_with_ref, ioctl_with_val};

fn check(result: c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A request about `name`, whose bytes beyond what the kernel takes are cut off.
fn request(name: &str) -> ifreq {
    // SAFETY: the structure is made of integers and arrays of them, and of a union of such.
    let mut request: ifreq = unsafe { std::mem::zeroed() };
    let bytes = name.bytes().take(IFNAMSIZ - 1);
    request.ifr_name.iter_mut().zip(bytes).for_each(|(to, from)| *to = from.cast_signed());
    request
}

fn name_of(request: &ifreq) -> String {
    let bytes = request.ifr_name.iter().map(|byte| byte.cast_unsigned()).take_while(|byte| *byte != 0);
    String::from_utf8_lossy(&bytes.collect::<Vec<u8>>()).into_owned()
}

/// `TUNSETIFF`: makes an open /dev/net/tun a queue of a tap, which is made if there is none; gives the tap's name.
pub(super) fn attach(file: &File, name: &str, flags: c_int) -> io::Result<String> {
    let mut request = request(name);
    request.ifr_ifru.ifru_flags = flags as c_short;
    // SAFETY: the kernel reads and writes one ifreq.
    check(unsafe { ioctl_with_mut_ref(file, libc::TUNSETIFF, &mut request) })?;
    Ok(name_of(&request))
}

/// `TUNGETIFF`: which tap a descriptor is of, and its flags.
pub(super) fn attached(file: &File) -> io::Result<(String, c_int)> {
    let mut request = request("");
    // SAFETY: the kernel writes one ifreq.
    check(unsafe { ioctl_with_mut_ref(file, libc::TUNGETIFF, &mut request) })?;
    // SAFETY: the kernel has filled in the flags; any bits make an integer.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    Ok((name_of(&request), c_int::from(flags.cast_unsigned())))
}

/// `TUNSETVNETHDRSZ`: bytes of the virtio header before each frame, for all queues of the tap.
pub(super) fn set_header_size(file: &File, bytes: c_int) -> io::Result<()> {
    // SAFETY: the kernel reads one int.
    check(unsafe { ioctl_with_ref(file, libc::TUNSETVNETHDRSZ, &bytes) })
}

/// `TUNSETOFFLOAD`: what the reader of the tap takes (TUN_F_*).
pub(super) fn set_offloads(file: &File, flags: c_uint) -> io::Result<()> {
    // SAFETY: passes a number.
    check(unsafe { ioctl_with_val(file, libc::TUNSETOFFLOAD, c_ulong::from(flags)) })
}

/// `TUNSETQUEUE`: lets the kernel give this queue frames, or not.
pub(super) fn enable_queue(file: &File, enable: bool) -> io::Result<()> {
    let mut request = request("");
    request.ifr_ifru.ifru_flags = if enable { IFF_ATTACH_QUEUE } else { IFF_DETACH_QUEUE } as c_short;
    // SAFETY: the kernel reads one ifreq.
    check(unsafe { ioctl_with_ref(file, libc::TUNSETQUEUE, &request) })
}

/// A socket for requests about interfaces.
fn socket() -> io::Result<File> {
    // SAFETY: takes numbers.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    check(fd)?;
    // SAFETY: the descriptor was just made and nobody else owns it.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// `SIOCGIFMTU`: an interface's largest payload, in bytes.
pub(super) fn mtu(name: &str) -> io::Result<c_int> {
    let mut request = request(name);
    // SAFETY: the kernel reads and writes one ifreq.
    check(unsafe { ioctl_with_mut_ref(&socket()?, libc::SIOCGIFMTU, &mut request) })?;
    // SAFETY: the kernel has filled in the MTU; any bits make an integer.
    Ok(unsafe { request.ifr_ifru.ifru_mtu })
}

/// `SIOCSIFMTU`: sets it.
pub(super) fn set_mtu(name: &str, mtu: c_int) -> io::Result<()> {
    let mut request = request(name);
    request.ifr_ifru.ifru_mtu = mtu;
    // SAFETY: the kernel reads one ifreq.
    check(unsafe { ioctl_with_ref(&socket()?, libc::SIOCSIFMTU, &request) })
}

/// `SIOCGIFFLAGS`: whether an interface is up.
pub(super) fn is_up(name: &str) -> io::Result<bool> {
    Ok(c_int::from(flags(name)?) & IFF_UP != 0)
}

/// `SIOCSIFFLAGS`: brings it up.
pub(super) fn set_up(name: &str) -> io::Result<()> {
    let mut request = request(name);
    request.ifr_ifru.ifru_flags = flags(name)? | IFF_UP as c_short;
    // SAFETY: the kernel reads one ifreq.
    check(unsafe { ioctl_with_ref(&socket()?, libc::SIOCSIFFLAGS, &request) })
}

fn flags(name: &str) -> io::Result<c_short> {
    let mut request = request(name);
    // SAFETY: the kernel reads and writes one ifreq.
    check(unsafe { ioctl_with_mut_ref(&socket()?, libc::SIOCGIFFLAGS, &mut request) })?;
    // SAFETY: the kernel has filled in the flags; any bits make an integer.
    Ok(unsafe { request.ifr_ifru.ifru_flags })
}

/// Reads into `slices`, then `rest`.
pub(super) fn read(fd: &impl AsRawFd, slices: &[VolatileSlice<'_>], rest: &mut [u8]) -> io::Result<usize> {
    let guards: Vec<_> = slices.iter().map(VolatileSlice::ptr_guard_mut).collect();
    let mut pieces: Vec<libc::iovec> = guards
        .iter()
        .map(|guard| libc::iovec { iov_base: guard.as_ptr().cast(), iov_len: guard.len() })
        .collect();
    pieces.push(libc::iovec { iov_base: rest.as_mut_ptr().cast(), iov_len: rest.len() });
    // SAFETY: each piece is guest memory that `guards` keep mapped, or `rest`, all of it writable. Whatever the guest does to
    // its memory meanwhile, nobody has a reference into it.
    let read = unsafe { libc::readv(fd.as_raw_fd(), pieces.as_ptr(), pieces.len() as c_int) };
    usize::try_from(read).map_err(|_| io::Error::last_os_error())
}

/// Writes `slices` in one go.
pub(super) fn write(fd: &impl AsRawFd, slices: &[VolatileSlice<'_>]) -> io::Result<usize> {
    let guards: Vec<_> = slices.iter().map(VolatileSlice::ptr_guard).collect();
    let pieces: Vec<libc::iovec> = guards
        .iter()
        .map(|guard| libc::iovec { iov_base: guard.as_ptr().cast_mut().cast(), iov_len: guard.len() })
        .collect();
    // SAFETY: each piece is guest memory that `guards` keep mapped, which the kernel reads.
    let written = unsafe { libc::writev(fd.as_raw_fd(), pieces.as_ptr(), pieces.len() as c_int) };
    usize::try_from(written).map_err(|_| io::Error::last_os_error())
}

/// The same open file as descriptor `fd` under a number of ours. `None`: it is not open.
pub(super) fn duplicate(fd: u32) -> Option<io::Result<File>> {
    let number = RawFd::try_from(fd).ok()?;
    // SAFETY: F_GETFD is harmless for any number; EBADF says that it stands for nothing.
    if unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
        return None;
    }
    // SAFETY: the descriptor is open, and is only borrowed to be duplicated.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    Some(borrowed.try_clone_to_owned().map(File::from))
}

/// Closes descriptor `fd`.
///
/// # Safety
/// It was inherited, and nobody in this process uses it.
pub(super) unsafe fn close(fd: u32) {
    // SAFETY: the caller says that nobody else owns it.
    drop(unsafe { OwnedFd::from_raw_fd(fd as RawFd) });
}

/// Has calls on it return EAGAIN rather than wait.
pub(super) fn set_nonblocking(file: &File) -> io::Result<()> {
    // SAFETY: F_GETFL takes no argument.
    let flags = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) };
    check(flags)?;
    // SAFETY: F_SETFL takes a number.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) })
}
