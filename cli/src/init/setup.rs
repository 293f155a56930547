//! The first steps of process 1: file systems, the console, and a quiet kernel.

use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};

use super::console;
use super::summary::Report;

/// Mounts what the rest reads and attaches the console; says what did not work, once there is where to say
/// it.
pub(super) fn prepare(report: &mut Report<'_>) {
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    let mounts = [
        ("proc", "/proc", flags | MountFlags::NODEV),
        ("sysfs", "/sys", flags | MountFlags::NODEV),
        ("devtmpfs", "/dev", flags),
        ("tmpfs", "/tmp", flags | MountFlags::NODEV),
    ];
    let mut failures = Vec::new();
    for (kind, target, flags) in mounts {
        match mount(kind, target, kind, flags, None) {
            Ok(()) | Err(Errno::BUSY) => {}
            Err(Errno::NODEV) => failures.push(format!("the kernel has no {kind}: {target} stays empty")),
            Err(error) => failures.push(format!("cannot mount {kind} on {target}: {error}")),
        }
    }
    if let Err(error) = console::attach() {
        failures.push(format!("no console: {error}"));
    }
    // The kernel decides whether to print a message when its turn comes. Whoever reads this waits until the console has
    // printed all that there is (console_unlock, kernel/printk/printk.c), so that nothing is lost of a kernel that was to be heard.
    let _ = std::fs::read("/proc/consoles");
    // Errors and worse only. Without procfs or printk there is nothing to turn down.
    let _ = std::fs::write("/proc/sys/kernel/printk", "4");
    for failure in failures {
        report.problem(&failure);
    }
}
