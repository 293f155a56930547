//! What the kernel command line asks of the init: `vmm.then=shell|poweroff|reboot`.

use super::summary::Report;
use super::system::{System, text};

const KEY: &str = "vmm.then=";

/// What follows the summary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// A prompt on the console.
    Shell,
    /// Off.
    PowerOff,
    /// Again.
    Reboot,
}

/// Reads the switch from `/proc/cmdline`; what it does not know is a problem and otherwise ignored.
pub(super) fn then(system: &System, report: &mut Report<'_>) -> Then {
    let (then, unknown) = parse(&text(&system.path("proc/cmdline")).unwrap_or_default());
    for value in unknown {
        report.problem(&format!("{KEY}{value} ignored: it is one of shell, poweroff, reboot"));
    }
    then
}

/// The last known value, and those that are not known.
fn parse(cmdline: &str) -> (Then, Vec<String>) {
    let (mut then, mut unknown) = (Then::Shell, Vec::new());
    for value in cmdline.split_ascii_whitespace().filter_map(|word| word.strip_prefix(KEY)) {
        then = match value {
            "shell" => Then::Shell,
            "poweroff" => Then::PowerOff,
            "reboot" => Then::Reboot,
            _ => {
                unknown.push(value.to_owned());
                continue;
            }
        };
    }
    (then, unknown)
}

#[cfg(test)]
#[path = "cmdline_test.rs"]
mod tests;
