//! The API: guests are watched and controlled over a socket, by our own tool and by requests as others make them, and no
//! client does harm.

mod balloon;
mod clients;
mod control;
mod devices;
mod lifecycle;
mod memory;

use crate::suite::{Case, Ctx, Failure, GuestInitrd, Output, QUIET, TestResult};

pub(super) fn all() -> Vec<Case> {
    let all =
        [control::all(), devices::all(), balloon::all(), memory::all(), lifecycle::all(), clients::all()];
    all.into_iter().flatten().collect()
}

/// Where the machine's socket is.
const SOCKET: &str = "/tmp/api.sock";
/// Where [`shell`] puts the guest's initramfs.
const SHELL: &str = "/tmp/shell.cpio";
/// What the guest says when it takes commands.
const READY: &str = "shell is ready";

/// Puts an initramfs into the host whose guest does what its console says, a line at a time.
fn shell(ctx: &Ctx) -> TestResult {
    shell_with(ctx, &[])
}

/// The same, with these files in it: paths and contents.
fn shell_with(ctx: &Ctx, files: &[(&str, &[u8])]) -> TestResult {
    let script =
        format!("stty -echo; echo {READY}; while read -r line; do eval \"$line\"; done; poweroff -f");
    let mut initrd = GuestInitrd::with_script(ctx.artefacts, &script)?;
    for (path, content) in files {
        initrd = initrd.file(path, content)?;
    }
    ctx.put(SHELL, &initrd.build()?)
}

/// A machine with that guest and a socket.
fn machine(flags: &str) -> String {
    format!("vmm run {QUIET} --api-socket {SOCKET} --memory 128M --initrd {SHELL} {flags}")
}

/// `vmm ctl` with these arguments, which is to succeed.
fn ctl(ctx: &Ctx, arguments: &str) -> TestResult<Output> {
    ctx.run(&format!("vmm ctl -s {SOCKET} {arguments}")).expect_success()
}

/// A number in a file of the host, such as seconds of uptime.
fn number(text: &str) -> TestResult<f64> {
    let word = text.split_whitespace().next().unwrap_or_default();
    word.parse().map_err(|_| Failure::new(format!("{text:?} does not begin with a number")))
}
