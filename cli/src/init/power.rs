//! The end of the guest, through reboot(2).

use rustix::system::{RebootCommand, reboot};

use super::console::say;

/// How the guest ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// ACPI soft-off.
    PowerOff,
    /// Reset.
    Reboot,
}

/// Writes back what is dirty and ends the guest. If the kernel comes back from that, it says so and waits:
/// process 1 must not exit.
pub(super) fn end(end: End) -> ! {
    let (command, name) = match end {
        End::PowerOff => (RebootCommand::PowerOff, "power off"),
        End::Reboot => (RebootCommand::Restart, "reboot"),
    };
    rustix::fs::sync();
    match reboot(command) {
        Ok(()) => say(&format!(
            "problem: asked to {name}, the kernel did nothing: this machine must be ended from outside"
        )),
        Err(error) => {
            say(&format!("problem: cannot {name}: {error}: this machine must be ended from outside"))
        }
    }
    loop {
        std::thread::park();
    }
}
