//! The power button: the kernel tells of it in the generic netlink family `acpi_event` (drivers/acpi/event.c), which
//! needs no input device and nothing in /dev. A kernel that has no such family has a button that nobody hears.
//!
//! # Unsafe
//! Joining a netlink group by number is a socket option that rustix does not have.
#![expect(unsafe_code, reason = "setsockopt NETLINK_ADD_MEMBERSHIP")]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread;

use rustix::io::Errno;
use rustix::net::netlink::{GENERIC, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with,
};

use super::console::say;
use super::power::{self, End};

/// What the controller of generic netlink is asked (include/uapi/linux/genetlink.h).
const CTRL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
const CTRL_ATTR_MCAST_GROUPS: u16 = 7;
const CTRL_ATTR_MCAST_GRP_ID: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const FAMILY: &[u8] = b"acpi_event\0";
const BUTTON: &[u8] = b"button/power";

/// Sizes of the headers before a message's attributes: nlmsghdr and genlmsghdr.
const HEADERS: usize = 16 + 4;
/// Attribute types carry flags in their upper bits.
const ATTRIBUTE_TYPE: u16 = 0x3fff;

/// Powers the guest off when its power button is pressed from now on, if the kernel tells.
pub(super) fn heed() {
    let Ok(socket) = listen() else { return };
    // Without the thread the button is not heeded, as without the kernel's help.
    let _ = thread::Builder::new().name("button".to_owned()).spawn(move || {
        if wait(&socket) {
            say("the power button was pressed");
            power::end(End::PowerOff);
        }
    });
}

fn listen() -> io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(GENERIC))?;
    bind(&socket, &SocketAddrNetlink::new(0, 0))?;
    send(&socket, &family_request(), SendFlags::empty())?;
    let mut answer = [0; 4096];
    let (length, _) = recv(&socket, &mut answer, RecvFlags::empty())?;
    let group = answer.get(..length).and_then(group_of).ok_or(io::ErrorKind::NotFound)?;
    // SAFETY: the option's value is the four bytes of `group`, which lives through the call.
    let joined = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_NETLINK,
            libc::NETLINK_ADD_MEMBERSHIP,
            (&raw const group).cast(),
            size_of::<u32>() as libc::socklen_t,
        )
    };
    if joined == 0 { Ok(socket) } else { Err(io::Error::last_os_error()) }
}

/// Waits for the button; false when nothing more can be heard.
fn wait(socket: &OwnedFd) -> bool {
    let mut event = [0; 4096];
    loop {
        match recv(socket, &mut event, RecvFlags::empty()) {
            Ok((length, _)) if event.get(..length).is_some_and(is_button) => return true,
            // Events that were lost may have been the button, and others.
            Ok(_) | Err(Errno::INTR | Errno::NOBUFS) => {}
            Err(_) => return false,
        }
    }
}

/// Asks for the family by its name.
fn family_request() -> Vec<u8> {
    let attribute = 4 + FAMILY.len();
    let length = HEADERS + attribute.next_multiple_of(4);
    let mut request = Vec::with_capacity(length);
    request.extend((length as u32).to_ne_bytes());
    request.extend(CTRL.to_ne_bytes());
    request.extend(NLM_F_REQUEST.to_ne_bytes());
    request.extend([0; 8]);
    request.extend([CTRL_CMD_GETFAMILY, 1, 0, 0]);
    request.extend((attribute as u16).to_ne_bytes());
    request.extend(CTRL_ATTR_FAMILY_NAME.to_ne_bytes());
    request.extend(FAMILY);
    request.resize(length, 0);
    request
}

/// The number of the family's first group.
fn group_of(answer: &[u8]) -> Option<u32> {
    let groups = attribute(answer.get(HEADERS..)?, |kind, _| kind == CTRL_ATTR_MCAST_GROUPS)?;
    let first = attribute(groups, |_, _| true)?;
    let id = attribute(first, |kind, _| kind == CTRL_ATTR_MCAST_GRP_ID)?;
    Some(u32::from_ne_bytes(id.get(..4)?.try_into().ok()?))
}

/// Whether an event is the button's: its device class begins the event's only attribute.
fn is_button(event: &[u8]) -> bool {
    let Some(attributes) = event.get(HEADERS..) else { return false };
    attribute(attributes, |_, payload| payload.starts_with(BUTTON)).is_some()
}

/// The payload of the first attribute that is wanted.
fn attribute(mut bytes: &[u8], wanted: impl Fn(u16, &[u8]) -> bool) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?) & ATTRIBUTE_TYPE;
        let payload = bytes.get(4..length)?;
        if wanted(kind, payload) {
            return Some(payload);
        }
        bytes = bytes.get(length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
#[path = "button_test.rs"]
mod tests;
