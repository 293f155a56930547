//! Lab hosts: QEMU machines in which KVM, an IOMMU and CMA are real, since QEMU emulates what they need.
//!
//! A host has no path in the file system: its initramfs is a memfd, its agent's port a socket pair, its
//! console a pipe, its disk a snapshot. Whatever ends the lab, its hosts end with it and nothing is left.

mod console;
mod initramfs;
mod link;
mod monitor;
mod qemu;
mod session;
mod spec;
mod tsc;

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use thiserror::Error;

pub(crate) use console::{Console, last_lines};
pub(crate) use initramfs::guest_base;
pub(crate) use session::{Deadline, Event, Session};
pub(crate) use spec::{Clock, HostKernel, HostSpec, NIC, NVME};

use crate::setup::Artefacts;
use crate::wire::{ExecRequest, Ready};
use link::Link;
use monitor::Monitor;
use qemu::{Qemu, Sockets};

/// From starting QEMU to an agent that answers. It takes 2 to 6 s; a busy machine may need far more.
const BOOT_DEADLINE: Duration = Duration::from_secs(180);
/// For the lab's own errands in a host.
const ERRAND_DEADLINE: Duration = Duration::from_secs(120);

/// Why a lab host could not be had or was lost.
#[derive(Debug, Error)]
pub(crate) enum HostError {
    /// QEMU cannot be started.
    #[error("cannot start QEMU")]
    Start(#[source] io::Error),
    /// A file for the host's root cannot be read.
    #[error("cannot put {} into the host", .path.display())]
    Add {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The host is to run a kernel that nobody has asked setup for.
    #[error("the host's kernel was not fetched")]
    NoKernel,
    /// A resource of the lab's own machine failed.
    #[error("cannot {action}")]
    Local {
        action: &'static str,
        #[source]
        source: io::Error,
    },
    /// QEMU ended, or the host panicked, before its agent answered.
    #[error("the lab host did not come up (QEMU: {qemu})")]
    Boot { qemu: String, console: String },
    /// The host was there and is gone: it panicked, powered off or QEMU died.
    #[error("the lab host is gone")]
    Gone { console: String },
    /// The command was not done in time.
    #[error("not done after {} s", .after.as_secs())]
    Deadline { after: Duration },
    /// An errand such as copying a file failed.
    #[error("{errand} failed in the host (status {status}): {stderr}")]
    Errand { errand: String, status: i32, stderr: String },
    /// QEMU does not do what its monitor was asked for.
    #[error("QEMU refuses {command}: {error}")]
    Monitor { command: String, error: String },
}

impl HostError {
    /// The end of the host's console, where it tells why.
    pub(crate) fn console(&self) -> Option<&str> {
        match self {
            HostError::Boot { console, .. } | HostError::Gone { console } => Some(console),
            _ => None,
        }
    }
}

/// A command that has ended.
pub(crate) struct Ran {
    pub(crate) status: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

/// A running lab host; dropping it ends it.
pub(crate) struct Host {
    // Dropped before the link: the link's reader then sees the end.
    qemu: Qemu,
    link: Arc<Link>,
    monitor: Monitor,
    console: Console,
    ready: Ready,
    boot_time: Duration,
}

impl Host {
    /// Boots a host and waits until its agent answers. `vmm` becomes its /bin/vmm.
    ///
    /// The host lives no longer than the calling thread.
    pub(crate) fn boot(
        spec: &HostSpec,
        artefacts: &Artefacts,
        vmm: Option<&Path>,
    ) -> Result<Host, HostError> {
        if spec.kernel != HostKernel::Lab && artefacts.stock(spec.kernel).is_none() {
            return Err(HostError::NoKernel);
        }
        let started = Instant::now();
        let initramfs = initramfs::build(spec, artefacts, vmm)?;
        let console = Console::default();
        let (mut qemu, Sockets { agent, monitor }) = Qemu::start(spec, artefacts, initramfs, &console)?;
        let (link, ready) = Link::open(agent)?;
        let monitor = Monitor::new(monitor);
        let ready = ready.recv_timeout(BOOT_DEADLINE).map_err(|e| {
            let qemu = match e {
                RecvTimeoutError::Timeout => {
                    qemu.kill();
                    format!("killed after {} s", BOOT_DEADLINE.as_secs())
                }
                RecvTimeoutError::Disconnected => qemu.end(),
            };
            HostError::Boot { qemu, console: console.last_words() }
        })?;
        Ok(Host { qemu, link, monitor, console, ready, boot_time: started.elapsed() })
    }

    /// From starting QEMU to the agent's first word.
    pub(crate) fn boot_time(&self) -> Duration {
        self.boot_time
    }

    /// CPU time that QEMU has used for it.
    pub(crate) fn cpu_time(&self) -> Duration {
        self.qemu.cpu_time()
    }

    /// `uname -r` of the host.
    pub(crate) fn release(&self) -> &str {
        &self.ready.release
    }

    /// What the agent could not prepare, one sentence each.
    pub(crate) fn problems(&self) -> &[String] {
        &self.ready.problems
    }

    /// All that the host's kernel and QEMU said.
    pub(crate) fn console(&self) -> &Console {
        &self.console
    }

    /// Does to the host's hardware what a person would type at QEMU's prompt; gives what QEMU prints.
    pub(crate) fn monitor(&self, line: &str) -> Result<String, HostError> {
        self.monitor.command(line)
    }

    /// Starts a command.
    pub(crate) fn exec(&self, request: ExecRequest) -> Result<Session, HostError> {
        Session::start(&self.link, &self.console, request)
    }

    /// Runs `argv` with `stdin` to its end, whatever that is.
    pub(crate) fn run(&self, argv: &[&str], stdin: &[u8], deadline: Deadline) -> Result<Ran, HostError> {
        let argv: Vec<String> = argv.iter().map(|word| (*word).to_owned()).collect();
        let session = self.exec(ExecRequest { argv, env: Vec::new(), terminal: None })?;
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        // The writer gives up when the command ends, at the latest with the session.
        let (writer, input) = (session.stdin(), stdin.to_vec());
        std::thread::spawn(move || writer.write_all_and_end(&input));
        loop {
            match session.next(deadline)? {
                Event::Stdout(bytes) => stdout.extend(bytes),
                Event::Stderr(bytes) => stderr.extend(bytes),
                Event::Exit(status) => return Ok(Ran { status, stdout, stderr }),
            }
        }
    }

    /// Runs `argv` with `stdin`, and gives its standard output. A failure is an error.
    pub(crate) fn errand(&self, argv: &[&str], stdin: &[u8]) -> Result<Vec<u8>, HostError> {
        let Ran { status, stdout, stderr } = self.run(argv, stdin, Deadline::after(ERRAND_DEADLINE))?;
        if status != 0 {
            let stderr = String::from_utf8_lossy(&stderr).trim().to_owned();
            return Err(HostError::Errand { errand: argv.join(" "), status, stderr });
        }
        Ok(stdout)
    }

    /// Writes a file in the host; `path` is absolute, its directory is made.
    pub(crate) fn put(&self, path: &str, content: &[u8]) -> Result<(), HostError> {
        let script = "mkdir -p \"${0%/*}\" && cat > \"$0\" && chmod 755 \"$0\"";
        self.errand(&["sh", "-c", script, path], content).map(drop)
    }

    /// Reads a file in the host.
    pub(crate) fn get(&self, path: &str) -> Result<Vec<u8>, HostError> {
        self.errand(&["cat", path], &[])
    }

    /// Brings the content of directory `from` in the host to directory `to` here.
    pub(crate) fn get_directory(&self, from: &str, to: &Path) -> Result<(), HostError> {
        let archive = self.errand(&["tar", "-c", "-C", from, "."], &[])?;
        let local = |action| move |source| HostError::Local { action, source };
        std::fs::create_dir_all(to).map_err(local("make the directory for the host's files"))?;
        let mut tar = Command::new("tar");
        tar.args(["-x", "--no-same-owner", "-C"]).arg(to).stdin(Stdio::piped());
        let mut tar = tar.spawn().map_err(local("start tar"))?;
        if let Some(mut stdin) = tar.stdin.take() {
            io::Write::write_all(&mut stdin, &archive).map_err(local("unpack the host's files"))?;
        }
        let status = tar.wait().map_err(local("unpack the host's files"))?;
        if !status.success() {
            let source = io::Error::other(format!("tar: {status}"));
            return Err(HostError::Local { action: "unpack the host's files", source });
        }
        Ok(())
    }

    /// The host's kernel log, as far as it can still be asked for it.
    pub(crate) fn dmesg(&self) -> String {
        match self.errand(&["dmesg"], &[]) {
            Ok(log) => String::from_utf8_lossy(&log).into_owned(),
            Err(e) => format!("(no dmesg: {e})"),
        }
    }
}
