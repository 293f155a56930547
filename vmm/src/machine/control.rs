//! The way into a running machine: a [`Control`] for whoever wants something of it, and the [`Requests`] that its event
//! loop takes them from.
//!
//! A request is a value in a channel with the place its answer goes to; an eventfd wakes the loop. Whoever answers may do
//! so later and from another thread. A request that nobody can answer any more, because the machine has ended, is
//! answered with [`ControlError::Over`].

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};

use devices::pci::PciAddress;
use devices::virtio::balloon::BalloonState;
use devices::virtio::blk::DiskCounts;
use devices::virtio::mem::MemState;
use memory::GuestRam;
use miette::Diagnostic;
use thiserror::Error;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::hypervisor::KvmError;
use crate::hypervisor::exits::ExitCounts;
use crate::problem::Problem;
use crate::virtio::plugged::PluggedSpec;

/// Why a request was not done.
#[derive(Debug, Error, Diagnostic)]
pub enum ControlError {
    /// The machine has ended, or ends before the request is done.
    #[error("the machine has ended")]
    #[diagnostic(help("start it again"))]
    Over,
    /// What is asked for makes no sense in the machine's present state.
    #[error("the machine is {state}")]
    #[diagnostic(help("{help}"))]
    State {
        /// `paused`, `running`, `being resumed`, `being dumped`.
        state: &'static str,
        /// What to do instead.
        help: &'static str,
    },
    /// The guest has no driver for what is asked for, or it does not listen yet.
    #[error("the guest does not listen to {0}")]
    #[diagnostic(help("wait until it has booted; its kernel needs the driver"))]
    Deaf(&'static str),
    /// This machine cannot do that.
    #[error("{what} is not supported {why}")]
    #[diagnostic(help("{help}"))]
    Unsupported {
        /// What was asked for.
        what: &'static str,
        /// The condition that is not met.
        why: &'static str,
        /// What to do.
        help: &'static str,
    },
    /// No disk has this name.
    #[error("there is no disk `{0}`")]
    #[diagnostic(help(
        "give its name, which is its number in the order of --disk if it has no other, as in _disk0, or the path of its image as it was given"
    ))]
    NoDisk(String),
    /// KVM refused.
    #[error("the machine's state cannot be changed")]
    #[diagnostic(help("look at the kernel log: `dmesg | grep -i kvm`"))]
    Kvm(#[from] KvmError),
    /// The host refused.
    #[error("cannot reach the machine")]
    #[diagnostic(help("the process may have too many open files: raise `ulimit -n`"))]
    Host(#[from] io::Error),
    /// Something with causes and a remedy of its own; see [`ControlError::diagnostic`].
    #[error("{}", .0.what)]
    Failed(Problem),
}

impl ControlError {
    /// What to tell a person: the error itself, or the problem it carries, with causes and remedy.
    pub fn diagnostic(&self) -> &dyn Diagnostic {
        match self {
            Self::Failed(problem) => problem.what.as_ref(),
            other => other,
        }
    }
}

/// Whether the guest runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Its vCPUs run.
    Running,
    /// Its vCPUs are being stopped.
    Pausing,
    /// Its vCPUs and its clock stand still.
    Paused,
}

/// A passed-through device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DevicePlace {
    /// Its address on the host, which is its name.
    pub host: PciAddress,
    /// Its address in the guest.
    pub guest: PciAddress,
}

/// What a device that can come and go is known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceName {
    /// A passed-through one: its address on the host.
    Host(PciAddress),
    /// A virtio device: the name that it was given.
    Virtio(String),
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(address) => write!(f, "{address}"),
            Self::Virtio(id) => f.write_str(id),
        }
    }
}

/// A virtio device behind a root port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluggedPlace {
    /// Its name.
    pub id: String,
    /// Its address in the guest.
    pub guest: PciAddress,
}

/// What a machine is just now.
#[derive(Clone, Debug)]
pub struct Info {
    /// Whether it runs.
    pub pace: Pace,
    /// Number of vCPUs.
    pub cpus: u32,
    /// RAM, in bytes.
    pub memory: u64,
    /// Its passed-through devices.
    pub devices: Vec<DevicePlace>,
    /// Its virtio devices behind root ports.
    pub plugged: Vec<PluggedPlace>,
    /// Its balloon.
    pub balloon: Option<BalloonState>,
    /// Its memory that comes and goes.
    pub pluggable: Option<MemState>,
}

/// What a machine has counted since it was built.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// For each vCPU why it left the guest.
    pub exits: Vec<ExitCounts>,
    /// The number of each vCPU's thread.
    pub threads: Vec<i32>,
    /// What each disk has done, by its name.
    pub disks: Vec<(String, DiskCounts)>,
    /// RAM that has pages, in bytes.
    pub allocated: u64,
}

/// What can be asked of a running machine. Each variant carries where its answer goes.
pub enum Request {
    /// What it is.
    Info(Reply<Info>),
    /// Stop vCPUs and clock. Answered when they stand still.
    Pause(Reply<()>),
    /// Let them go on.
    Resume(Reply<()>),
    /// Press the ACPI power button. Answered when it is pressed.
    PowerButton(Reply<()>),
    /// Reset the machine, as the guest could. Answered when it has begun.
    Reboot(Reply<()>),
    /// Stop the machine without asking the guest. Answered when it has begun.
    Shutdown(Reply<()>),
    /// Raise a non-maskable interrupt on every vCPU.
    Nmi(Reply<()>),
    /// What it has counted.
    Counters(Reply<Counters>),
    /// Its RAM, to look at where that lies.
    Ram(Reply<Arc<GuestRam>>),
    /// Plug a host device in. Answered when the guest can see it.
    AddDevice(PciAddress, Reply<DevicePlace>),
    /// Plug a virtio device in. Answered when the guest can see it.
    AddVirtio(Box<PluggedSpec>, Reply<PciAddress>),
    /// Unplug a device. Answered when the host has all of it again.
    RemoveDevice(DeviceName, Reply<()>),
    /// Write RAM and registers of a paused machine to a new file. Answered when that is complete.
    Coredump(PathBuf, Reply<()>),
    /// Make the disk of this name so many bytes large. Answered when the guest has been told.
    ResizeDisk(String, u64, Reply<()>),
    /// Ask the guest to have given so many bytes of its memory. Answered when it has been asked.
    ResizeBalloon(u64, Reply<()>),
    /// Tell the guest to have so many bytes plugged in besides its RAM. Answered when it has been told.
    ResizeMemory(u64, Reply<()>),
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Info(_) => f.write_str("info"),
            Self::Pause(_) => f.write_str("pause"),
            Self::Resume(_) => f.write_str("resume"),
            Self::PowerButton(_) => f.write_str("power button"),
            Self::Reboot(_) => f.write_str("reboot"),
            Self::Shutdown(_) => f.write_str("shutdown"),
            Self::Nmi(_) => f.write_str("nmi"),
            Self::Counters(_) => f.write_str("counters"),
            Self::Ram(_) => f.write_str("memory"),
            Self::AddDevice(address, _) => write!(f, "add device {address}"),
            Self::AddVirtio(spec, _) => write!(f, "add {spec:?}"),
            Self::RemoveDevice(name, _) => write!(f, "remove device {name}"),
            Self::Coredump(path, _) => write!(f, "core dump to {}", path.display()),
            Self::ResizeDisk(id, size, _) => write!(f, "resize disk {id} to {size} bytes"),
            Self::ResizeBalloon(size, _) => write!(f, "resize the balloon to {size} bytes"),
            Self::ResizeMemory(size, _) => write!(f, "have {size} bytes plugged in"),
        }
    }
}

/// Where the answer to one request goes. Dropping it answers [`ControlError::Over`].
#[derive(Debug)]
pub struct Reply<T>(SyncSender<Result<T, ControlError>>);

impl<T> Reply<T> {
    /// Answers.
    pub fn send(self, answer: Result<T, ControlError>) {
        // Who asked may have given up waiting.
        let _ = self.0.send(answer);
    }
}

/// A handle on a machine, to be used from any thread. Clones are handles on the same machine.
#[derive(Clone, Debug)]
pub struct Control {
    requests: Sender<Request>,
    wake: Arc<EventFd>,
}

/// The machine's end: what is asked of it, in order.
#[derive(Debug)]
pub struct Requests {
    pub(super) queue: Receiver<Request>,
    pub(super) wake: Arc<EventFd>,
}

/// Makes both ends. Requests wait until the machine runs. Fails when no eventfd is to be had.
pub fn channel() -> io::Result<(Control, Requests)> {
    let wake = Arc::new(EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)?);
    let (requests, queue) = mpsc::channel();
    Ok((Control { requests, wake: wake.clone() }, Requests { queue, wake }))
}

impl Control {
    /// What the machine is just now.
    pub fn info(&self) -> Result<Info, ControlError> {
        self.ask(Request::Info)
    }

    /// Stops vCPUs and clock; returns when they stand still.
    pub fn pause(&self) -> Result<(), ControlError> {
        self.ask(Request::Pause)
    }

    /// Lets a paused machine go on.
    pub fn resume(&self) -> Result<(), ControlError> {
        self.ask(Request::Resume)
    }

    /// Presses the power button. What the guest makes of it is its own business.
    pub fn power_button(&self) -> Result<(), ControlError> {
        self.ask(Request::PowerButton)
    }

    /// Resets the machine without asking the guest.
    pub fn reboot(&self) -> Result<(), ControlError> {
        self.ask(Request::Reboot)
    }

    /// Stops the machine without asking the guest. Returns before it is gone.
    pub fn shutdown(&self) -> Result<(), ControlError> {
        self.ask(Request::Shutdown)
    }

    /// Raises a non-maskable interrupt on every vCPU.
    pub fn nmi(&self) -> Result<(), ControlError> {
        self.ask(Request::Nmi)
    }

    /// What the machine has counted.
    pub fn counters(&self) -> Result<Counters, ControlError> {
        self.ask(Request::Counters)
    }

    /// Plugs in the host device at `address`; returns where the guest sees it.
    pub fn add_device(&self, address: PciAddress) -> Result<DevicePlace, ControlError> {
        self.ask(|reply| Request::AddDevice(address, reply))
    }

    /// Its RAM. It stays for as long as somebody holds it, so that is not to be long.
    pub fn ram(&self) -> Result<Arc<GuestRam>, ControlError> {
        self.ask(Request::Ram)
    }

    /// Plugs in a virtio device; returns where the guest sees it.
    pub fn add_virtio(&self, spec: PluggedSpec) -> Result<PciAddress, ControlError> {
        self.ask(|reply| Request::AddVirtio(Box::new(spec), reply))
    }

    /// Unplugs a device; returns when the host has all of it again.
    pub fn remove_device(&self, name: DeviceName) -> Result<(), ControlError> {
        self.ask(|reply| Request::RemoveDevice(name, reply))
    }

    /// Makes a disk, named as in [`crate::virtio::disk::find`], so many bytes large.
    pub fn resize_disk(&self, id: &str, size: u64) -> Result<(), ControlError> {
        self.ask(|reply| Request::ResizeDisk(id.to_owned(), size, reply))
    }

    /// Asks the guest to have given `size` bytes of its memory, whole pages; returns when it has been asked.
    pub fn resize_balloon(&self, size: u64) -> Result<(), ControlError> {
        self.ask(|reply| Request::ResizeBalloon(size, reply))
    }

    /// Tells the guest to have `size` bytes plugged in besides its RAM, whole blocks; returns when it has been told.
    pub fn resize_memory(&self, size: u64) -> Result<(), ControlError> {
        self.ask(|reply| Request::ResizeMemory(size, reply))
    }

    /// Writes RAM and registers of a paused machine to the new file at `path`; returns when that is complete.
    pub fn coredump(&self, path: &Path) -> Result<(), ControlError> {
        self.ask(|reply| Request::Coredump(path.to_owned(), reply))
    }

    fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, ControlError> {
        let (reply, answer) = mpsc::sync_channel(1);
        self.requests.send(request(Reply(reply))).map_err(|_| ControlError::Over)?;
        self.wake.write(1)?;
        answer.recv().unwrap_or(Err(ControlError::Over))
    }
}

#[cfg(test)]
#[path = "control_test.rs"]
mod tests;
