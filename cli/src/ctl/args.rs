//! What can be asked of a machine, as it is typed.

use std::path::PathBuf;

use clap::{Args, Subcommand};

const CTL_HELP: &str = "\
Exit codes: 0 done, 1 the machine did not do it, 2 usage, 3 no machine answers at the socket.";

#[derive(Debug, Args)]
#[command(after_help = CTL_HELP)]
pub(crate) struct CtlArgs {
    #[command(flatten)]
    pub(crate) machine: Socket,
    #[command(subcommand)]
    pub(crate) ask: Ask,
}

/// The machine that is asked, and how it is told what it answers.
#[derive(Debug, Args)]
pub(crate) struct Socket {
    /// The machine's socket, as `--api-socket` was given it.
    #[arg(long, short, value_name = "PATH")]
    pub(crate) socket: PathBuf,
    /// Print answers as JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Give up when there is no answer for so long: 500ms, 30s, 2m. For ever without it.
    #[arg(long, value_name = "DURATION", global = true)]
    pub(crate) timeout: Option<String>,
}

const MEMORY_HELP: &str = "\
Looks at every page as it lies just now, so it costs the host some milliseconds for each GiB. Nothing is moved or allocated.

Exit codes: 0 done, 1 the machine did not do it, 2 usage, 3 no machine answers at the socket.";

#[derive(Debug, Args)]
#[command(after_help = MEMORY_HELP)]
pub(crate) struct MemoryArgs {
    #[command(flatten)]
    pub(crate) machine: Socket,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Ask {
    /// Who answers.
    Ping,
    /// What the machine is.
    Info,
    /// Whether it runs, and how far a start is.
    State,
    /// Look whether the machine that was created could be started, and start nothing.
    Preflight,
    /// Create the machine that a file describes; it does not run yet.
    Create {
        /// A machine in JSON (docs/api/), or - for standard input.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Start it, and wait until its guest runs.
    Boot,
    /// Press its power button: what follows is up to the guest.
    PowerButton {
        /// Wait for the machine to be gone, for so long at most.
        #[arg(long, value_name = "DURATION", num_args = 0..=1, default_missing_value = "2m")]
        wait: Option<String>,
    },
    /// Reset it without asking the guest.
    Reboot,
    /// Stop it without asking the guest. It can be booted again.
    Shutdown,
    /// Forget it; shut it down first if it runs.
    Delete,
    /// Stop its vCPUs and its clock.
    Pause,
    /// Let it go on.
    Resume,
    /// Raise a non-maskable interrupt on each of its vCPUs.
    Nmi,
    /// Pass another host PCI device through.
    AddDevice {
        /// Its address on the host.
        #[arg(value_name = "BDF")]
        device: String,
        /// A name for it, to remove it by.
        #[arg(long)]
        id: Option<String>,
    },
    /// Plug in a disk.
    AddDisk {
        /// Its image, or a block device.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// The guest cannot write to it.
        #[arg(long)]
        ro: bool,
        /// A name for it, to remove it by.
        #[arg(long)]
        id: Option<String>,
    },
    /// Plug in a network card.
    AddNet {
        /// Its tap, which is made if there is none.
        #[arg(value_name = "TAP")]
        tap: String,
        /// Its MAC address; made up without it.
        #[arg(long)]
        mac: Option<String>,
        /// A name for it, to remove it by.
        #[arg(long)]
        id: Option<String>,
    },
    /// Plug in a directory that virtiofsd shares.
    AddFs {
        /// Where its daemon listens.
        #[arg(value_name = "SOCKET")]
        daemon: PathBuf,
        /// What the guest mounts it by.
        #[arg(value_name = "TAG")]
        tag: String,
        /// A name for it, to remove it by.
        #[arg(long)]
        id: Option<String>,
    },
    /// Plug in a vsock.
    AddVsock {
        /// What programs of the host connect to.
        #[arg(value_name = "SOCKET")]
        path: PathBuf,
        /// The guest's address.
        #[arg(value_name = "CID")]
        cid: u32,
        /// A name for it, to remove it by.
        #[arg(long)]
        id: Option<String>,
    },
    /// Take a device out, and wait until the host has all of it again.
    RemoveDevice {
        /// Its name, as `info` shows it, or its address on the host.
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Give the guest so much memory, or take so much from it. vCPUs can only be what the machine has, and so can memory without room
    /// for more (--hotplug-memory).
    Resize {
        /// vCPUs.
        #[arg(long, value_name = "N")]
        cpus: Option<u32>,
        /// What it is to have in all: in bytes or with a suffix K, M, G or T (powers of 1024).
        #[arg(long, value_name = "SIZE")]
        memory: Option<String>,
        /// What its balloon is to hold: as --memory.
        #[arg(long, value_name = "SIZE")]
        balloon: Option<String>,
    },
    /// Make a disk larger, and tell the guest.
    ResizeDisk {
        /// Its name, which is `_disk0` for the first --disk if it was given none, or its image as it was given.
        #[arg(value_name = "ID")]
        id: String,
        /// In bytes or with a suffix K, M, G or T (powers of 1024).
        #[arg(value_name = "SIZE")]
        size: String,
    },
    /// Write memory and registers of a paused machine to a new ELF core file, laid out as QEMU's are.
    Coredump {
        /// The file, on the machine's host; a relative one is looked for from here.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Why its vCPUs left the guest, and how often.
    Counters,
    /// How long the phases of its start took.
    Phases,
    /// What pinning its memory came to.
    PinReport,
    /// Metrics, as Prometheus reads them.
    Metrics,
    /// End the machine and its process.
    ShutdownVmm,
    /// Make any request.
    Call {
        /// GET or PUT.
        #[arg(value_name = "METHOD")]
        method: String,
        /// Such as /api/v1/vm.info.
        #[arg(value_name = "PATH")]
        path: String,
        /// The request's body, or - for standard input.
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
}
