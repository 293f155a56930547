//! The signals that ask the machine to end. Caught for the whole session, so that none is lost while the guest reboots.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

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

/// The signals that end the machine.
pub struct Signals(Vec<Signal>);

impl Signals {
    /// Catches them from now on.
    pub fn catch() -> io::Result<Self> {
        SIGNALS.into_iter().map(Signal::catch).collect::<io::Result<_>>().map(Self)
    }

    /// One that has arrived and was not returned before.
    pub fn arrived(&mut self) -> Option<SignalName> {
        self.0.iter_mut().find_map(|signal| signal.has_arrived().then_some(signal.name))
    }

    /// Readable when one has arrived.
    pub fn sockets(&self) -> impl Iterator<Item = &UnixStream> {
        self.0.iter().map(|signal| &signal.arrived)
    }
}

/// A signal that arrives as bytes in a socket.
struct Signal {
    name: SignalName,
    arrived: UnixStream,
    id: signal_hook::SigId,
}

impl Signal {
    fn catch(name: SignalName) -> io::Result<Self> {
        let (arrived, sender) = UnixStream::pair()?;
        arrived.set_nonblocking(true)?;
        let id = signal_hook::low_level::pipe::register(name.number, sender)?;
        Ok(Self { name, arrived, id })
    }

    fn has_arrived(&mut self) -> bool {
        matches!(self.arrived.read(&mut [0; 1]), Ok(1..))
    }
}

impl Drop for Signal {
    fn drop(&mut self) {
        signal_hook::low_level::unregister(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_arrival_is_told_once() {
        let mut signals = Signals::catch().unwrap();
        assert_eq!(signals.arrived(), None);
        for _ in 0..2 {
            signal_hook::low_level::raise(SIGHUP).unwrap();
        }
        let names: Vec<_> = std::iter::from_fn(|| signals.arrived()).map(|signal| signal.name).collect();
        assert_eq!(names, ["SIGHUP", "SIGHUP"]);
    }
}
