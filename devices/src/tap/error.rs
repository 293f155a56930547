//! What can be wrong with a tap.

use std::io;

use miette::Diagnostic;
use thiserror::Error;

use super::{LEAST_MTU, MOST_MTU};

/// A tap that cannot be had.
#[derive(Debug, Error, Diagnostic)]
pub enum TapError {
    /// Not a name of an interface.
    #[error("`{0}` cannot be the name of a tap")]
    #[diagnostic(help("names have 1 to 15 characters, without `/`, `:` and spaces"))]
    Name(String),
    /// There is none.
    #[error("there is no tap {0}")]
    #[diagnostic(help(
        "make one and connect it, as root:\n  ip tuntap add {0} mode tap user $USER && ip link set {0} up\n\
         or let vmm make it: --net tap={0},create"
    ))]
    Missing(String),
    /// It is something else.
    #[error("the interface {0} is not a tap")]
    #[diagnostic(help("give the name of a tap: `ip tuntap` lists them"))]
    NotTap(String),
    /// Another process has it.
    #[error("the tap {0} is in use by another process")]
    #[diagnostic(help("end that one, or use another tap: `grep -l 'iff:.*{0}$' /proc/*/fdinfo/*` finds it"))]
    InUse(String),
    /// It belongs to someone else.
    #[error("the tap {0} is not ours to use")]
    #[diagnostic(help(
        "it belongs to another user: run vmm as that one or with CAP_NET_ADMIN, or make the tap anew as root:\n  \
         ip tuntap add {0} mode tap user $USER"
    ))]
    NotOurs(String),
    /// It cannot be made.
    #[error("the tap {0} cannot be made: that takes CAP_NET_ADMIN")]
    #[diagnostic(help("make it as root, and leave `create` out:\n  ip tuntap add {0} mode tap user $USER"))]
    NotAllowed(String),
    /// One queue, or several, unlike what is asked for.
    #[error("the tap {name} has one queue, not {queues}")]
    #[diagnostic(help(
        "leave `queues` out, or make the tap with more: ip tuntap add {name} mode tap multi_queue"
    ))]
    SingleQueue {
        /// The tap.
        name: String,
        /// What was asked for.
        queues: u16,
    },
    /// No tun driver.
    #[error("there is no /dev/net/tun")]
    #[diagnostic(help("load the driver: modprobe tun"))]
    NoDriver(#[source] io::Error),
    /// It cannot be opened.
    #[error("/dev/net/tun cannot be opened")]
    #[diagnostic(help(
        "it is usually open to all (mode 666): `ls -l /dev/net/tun`, and the rules of a container, tell"
    ))]
    Driver(#[source] io::Error),
    /// The kernel does not let the MTU be set.
    #[error("the MTU of the tap {name} cannot be set to {mtu}")]
    #[diagnostic(help(
        "set it as root, and leave `mtu` out, which is then the tap's: ip link set {name} mtu {mtu}"
    ))]
    Mtu {
        /// The tap.
        name: String,
        /// What was asked for.
        mtu: u16,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A tap whose MTU no guest could use.
    #[error("the MTU of the tap {name} is {mtu}, which is not {LEAST_MTU} to {MOST_MTU}")]
    #[diagnostic(help("set another: ip link set {name} mtu 1500"))]
    OddMtu {
        /// The tap.
        name: String,
        /// What it is.
        mtu: i64,
    },
    /// A number that stands for nothing, or for something else.
    #[error("file descriptor {fd} is not a tap: {what}")]
    #[diagnostic(help(
        "open /dev/net/tun and attach it with TUNSETIFF and IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, and leave it open across exec"
    ))]
    Handed {
        /// The number.
        fd: u32,
        /// What it is.
        what: String,
    },
    /// Queues of different taps.
    #[error("file descriptor {fd} is a queue of {name}, the first one is of {first}")]
    #[diagnostic(help("each network card has the queues of one tap"))]
    Mixed {
        /// The number.
        fd: u32,
        /// Its tap.
        name: String,
        /// That of the first descriptor.
        first: String,
    },
    /// Something that should not fail.
    #[error("the tap {name} cannot be set up: {step}")]
    #[diagnostic(help(
        "the kernel may be too old for it, or a security module be in the way: `dmesg` may tell"
    ))]
    SetUp {
        /// The tap.
        name: String,
        /// What failed.
        step: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}
