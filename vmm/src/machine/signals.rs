//! The signals that ask the machine to end. Caught for the whole session, so that none is lost while the guest reboots;
//! but while a machine is being built there is no guest to ask, and they do what they do to any process.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};

/// One of the signals, and how it is spoken of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignalName {
    number: i32,
    /// `SIGTERM`.
    pub name: &'static str,
    /// What is said when the machine stops for it at once.
    pub stopped: &'static str,
    /// What is said when the machine stops because the guest took too long over it.
    pub overdue: &'static str,
}

/// All of them.
const SIGNALS: [SignalName; 3] = [
    SignalName {
        number: SIGTERM,
        name: "SIGTERM",
        stopped: "stopped by SIGTERM",
        overdue: "stopped by SIGTERM: the guest did not power off in time",
    },
    SignalName {
        number: SIGINT,
        name: "SIGINT",
        stopped: "stopped by SIGINT",
        overdue: "stopped by SIGINT: the guest did not power off in time",
    },
    SignalName {
        number: SIGHUP,
        name: "SIGHUP",
        stopped: "stopped by SIGHUP",
        overdue: "stopped by SIGHUP: the guest did not power off in time",
    },
];

/// From now on a write past the limit on file sizes (RLIMIT_FSIZE) fails, as one to a full file system does. If the signal is not
/// caught it ends the process (setrlimit(2)).
///
/// # Errors
/// The kernel refuses.
pub fn outlive_file_limit() -> io::Result<()> {
    signal_hook::flag::register(SIGXFSZ, Arc::default()).map(drop)
}

/// The signals that end the machine.
pub struct Signals {
    signals: Vec<Signal>,
    /// They end the process.
    fatal: Arc<AtomicBool>,
    /// A guest was asked to power off for one of them.
    asked: bool,
}

impl Signals {
    /// Catches them from now on.
    pub fn catch() -> io::Result<Self> {
        let fatal = Arc::new(AtomicBool::new(false));
        let signals =
            SIGNALS.into_iter().map(|name| Signal::catch(name, &fatal)).collect::<io::Result<_>>()?;
        Ok(Self { signals, fatal, asked: false })
    }

    /// Whether from now on they end the process, as if they were not caught.
    pub fn set_fatal(&self, fatal: bool) {
        self.fatal.store(fatal, Ordering::SeqCst);
    }

    /// One that has arrived and was not returned before.
    pub fn arrived(&mut self) -> Option<SignalName> {
        self.signals.iter_mut().find_map(|signal| signal.has_arrived().then_some(signal.name))
    }

    /// The guest was asked to power off for one of them.
    pub fn note_asked(&mut self) {
        self.asked = true;
    }

    /// Whether a guest was, so that its end is what the sender waits for.
    pub fn have_asked(&self) -> bool {
        self.asked
    }

    /// Readable when one has arrived.
    pub fn sockets(&self) -> impl Iterator<Item = &UnixStream> {
        self.signals.iter().map(|signal| &signal.arrived)
    }
}

/// A signal that arrives as bytes in a socket.
struct Signal {
    name: SignalName,
    arrived: UnixStream,
    ids: [signal_hook::SigId; 2],
}

impl Signal {
    fn catch(name: SignalName, fatal: &Arc<AtomicBool>) -> io::Result<Self> {
        let (arrived, sender) = UnixStream::pair()?;
        arrived.set_nonblocking(true)?;
        // Actions are done in this order.
        let deadly = signal_hook::flag::register_conditional_default(name.number, fatal.clone())?;
        let told = signal_hook::low_level::pipe::register(name.number, sender)?;
        Ok(Self { name, arrived, ids: [deadly, told] })
    }

    fn has_arrived(&mut self) -> bool {
        matches!(self.arrived.read(&mut [0; 1]), Ok(1..))
    }
}

impl Drop for Signal {
    fn drop(&mut self) {
        for id in self.ids {
            signal_hook::low_level::unregister(id);
        }
    }
}
