//! Taps whose queues were opened by whoever started us, and left open: a launcher with rights gives them to a process without.
//!
//! # Unsafe
//!
//! Descriptors are named by number. One is taken over only when it stands for a queue of a tap that this process has not opened.
#![expect(unsafe_code, reason = "file descriptors are given by number")]

use std::ffi::c_int;
use std::fs::File;
use std::io;
use std::sync::Arc;

use libc::{IFF_MULTI_QUEUE, IFF_NO_PI, IFF_TAP, IFF_VNET_HDR};

use super::{Tap, TapError, TapQueue, sys};

/// A tap that was handed in. It can be opened again and again.
#[derive(Clone, Debug)]
pub struct HandedTap {
    name: String,
    multi: bool,
    queues: Vec<Arc<File>>,
}

impl HandedTap {
    /// Takes over descriptors, each a queue of one tap.
    ///
    /// # Errors
    /// One of them is none, or of another tap.
    pub fn take(descriptors: &[u32]) -> Result<Self, TapError> {
        let mut taken: Option<Self> = None;
        for fd in descriptors {
            let (file, name, flags) = look_at(*fd)?;
            match &mut taken {
                Some(tap) if tap.name == name => tap.queues.push(Arc::new(file)),
                Some(tap) => return Err(TapError::Mixed { fd: *fd, name, first: tap.name.clone() }),
                None => {
                    let multi = flags & IFF_MULTI_QUEUE != 0;
                    taken = Some(Self { name, multi, queues: vec![Arc::new(file)] });
                }
            }
        }
        let taken = taken.ok_or_else(|| TapError::Missing(String::new()))?;
        for fd in descriptors {
            // SAFETY: it stands for a queue of a tap, and this process opens taps only after what is asked for has been read,
            // and not by number. So it was inherited, and nobody else closes it. The caller names each one once.
            unsafe { sys::close(*fd) };
        }
        Ok(taken)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A tap of these queues, with this MTU, or the one it has.
    ///
    /// # Errors
    /// It cannot do what is asked for.
    pub fn open(&self, mtu: Option<u16>) -> Result<Tap, TapError> {
        let queue = |file: &Arc<File>| file.try_clone().map(TapQueue);
        let queues = self.queues.iter().map(queue).collect::<io::Result<Vec<_>>>();
        let queues = queues.map_err(super::set_up(&self.name, "its descriptors cannot be duplicated"))?;
        Tap::set_up(self.name.clone(), queues, self.multi, mtu)
    }
}

/// What a number stands for: a queue of ours, the name of its tap, its flags.
fn look_at(fd: u32) -> Result<(File, String, c_int), TapError> {
    let refuse = |what: &str| TapError::Handed { fd, what: what.to_owned() };
    if fd <= 2 {
        return Err(refuse("it is a standard one"));
    }
    let file = sys::duplicate(fd).ok_or_else(|| refuse("it is not open"))?;
    let file = file.map_err(|error| refuse(&error.to_string()))?;
    let (name, flags) = sys::attached(&file).map_err(|error| refuse(&error.to_string()))?;
    for (flag, missing) in [
        (IFF_TAP, "it is a tun, not a tap"),
        (IFF_NO_PI, "it was attached without IFF_NO_PI"),
        (IFF_VNET_HDR, "it was attached without IFF_VNET_HDR"),
    ] {
        if flags & flag == 0 {
            return Err(refuse(missing));
        }
    }
    sys::set_nonblocking(&file).map_err(|error| refuse(&error.to_string()))?;
    Ok((file, name, flags))
}
