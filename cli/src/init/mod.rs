//! What runs as process 1 of the embedded default guest: it says what the guest sees, then offers a small
//! prompt.
//!
//! The archive it lives in is made by [`crate::initramfs`]. It answers one question, "does passthrough work
//! on this host?", so nothing stops it on its way to the prompt: what goes wrong is a `problem:` line. The
//! kernel's own messages are turned down to errors meanwhile, so that they do not cut a line in two.
//!
//! # Output
//! One fact a line, in this order; `<>` marks what varies. Tests may rely on it.
//!
//! ```text
//! kernel <release> <machine>
//! cpus <count> online
//! memory <MiB> MiB total, <MiB> MiB available
//! modules <count> loaded: <name> <name>                       when any was
//! note: <what the builder of the archive had to say>           any number
//! problem: <what went wrong>                                   any number, anywhere
//! pci <address> <class name> [<6 hex digits>], <vendor>:<device>, driver <name>, <count> MSI-X, <count> interrupts
//!     or `no driver`; `<count> MSI`, `legacy irq <number>`, or `no irqs` (and no count of interrupts)
//! disk /dev/<name>, <bytes> bytes, on <PCI address>
//! read 8 MiB from /dev/<name>, sha256 <64 hex digits>, <ms> ms
//! summary complete: <n> PCI devices, <n> disks read, <n> problems
//! ```
//!
//! A value that cannot be read is `unknown`. A disk below 8 MiB is read whole: `read <bytes> bytes from ...`.
//!
//! # What happens next
//! `vmm.then=shell|poweroff|reboot` on the kernel command line, `shell` if absent: a prompt `vmm> ` on the
//! console ([`prompt`]), at whose end of input the guest powers off, as it does at any time when its power button is pressed.

mod button;
pub(crate) mod class;
mod cmdline;
mod console;
mod disk;
#[cfg(test)]
mod fixture;
mod interrupts;
mod modules;
mod nvme;
mod pci;
mod power;
mod prompt;
mod setup;
mod summary;
mod system;
mod wait;

use cmdline::Then;
use power::End;
use summary::Report;
use system::System;

/// Runs as process 1 until the guest powers off or reboots. Anywhere else it would reboot the host: the
/// caller checks that this is process 1 of a guest.
pub(crate) fn main() -> ! {
    let mut stdout = std::io::stdout();
    let mut report = Report::new(&mut stdout);
    setup::prepare(&mut report);
    let system = System::real();
    // From the start: who presses it while drivers are still looked for has to wait for nothing.
    button::heed();

    summary::machine(&system, &mut report);

    // Listening starts before the first driver does, so that no event is missed.
    let events = wait::Uevents::open();
    modules::load(&system, &mut report);
    wait::for_disks(&system, &events, &mut report);
    let then = cmdline::then(&system, &mut report);
    summary::devices(&system, &mut report);

    let end = match then {
        Then::Shell => prompt::run(&system),
        Then::PowerOff => End::PowerOff,
        Then::Reboot => End::Reboot,
    };
    power::end(end)
}
