//! What can be wrong with an image before a guest gets it, and what to do about each.

use std::io;
use std::path::PathBuf;

use miette::Diagnostic;
use thiserror::Error;

use super::qcow2::HeaderError;

/// Why an image cannot be a disk.
#[derive(Debug, Error, Diagnostic)]
pub enum DiskError {
    /// There is none, or it may not be read or written.
    #[error("the {what} {} cannot be opened {}", path.display(), if *writable { "for writing" } else { "for reading" })]
    #[diagnostic(help("{}", open_help(source, *writable)))]
    Open {
        /// What it was to be: a disk image, for instance.
        what: &'static str,
        /// The image.
        path: PathBuf,
        /// Whether it was to be written.
        writable: bool,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A directory, pipe, socket or character device.
    #[error("{} is {kind} and no {what}", path.display())]
    #[diagnostic(help("give a file or a block device"))]
    NotAnImage {
        /// What it was to be: a disk image, for instance.
        what: &'static str,
        /// What was given.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// Something about the open file cannot be found out.
    #[error("the {what} {} cannot be examined", path.display())]
    #[diagnostic(help("its file system or device reports an error: look at `dmesg`"))]
    Examine {
        /// What it was to be: a disk image, for instance.
        what: &'static str,
        /// The image.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Less than a sector.
    #[error("the disk image {} has {bytes} bytes, a disk has at least 512", path.display())]
    #[diagnostic(help("is it the right file? An empty disk is made with `truncate -s 8G FILE`"))]
    TooSmall {
        /// The image.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// Somebody else uses it in a way that excludes this one.
    #[error("the {what} {} is in use by another process", path.display())]
    #[diagnostic(help("{}", locked_help(holders, *writable)))]
    Locked {
        /// What it was to be: a disk image, for instance.
        what: &'static str,
        /// The image.
        path: PathBuf,
        /// Whether it was to be written.
        writable: bool,
        /// Who has the file open, as far as that can be seen.
        holders: Vec<String>,
    },
    /// The file system has no locks.
    #[error("the {what} {} cannot be locked", path.display())]
    #[diagnostic(help(
        "its file system offers no locks. If nobody else can write to it, add lock=off to it"
    ))]
    Unlockable {
        /// What it was to be: a disk image, for instance.
        what: &'static str,
        /// The image.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The file system refuses O_DIRECT.
    #[error("the disk image {} cannot be read past the page cache", path.display())]
    #[diagnostic(help("its file system does not know direct I/O: leave `direct` out"))]
    Direct {
        /// The image.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// An image of another hypervisor.
    #[error("the disk image {} has the format {format}, which is not read", path.display())]
    #[diagnostic(help(
        "convert it: qemu-img convert -O qcow2 IMAGE NEW.qcow2. If it is a raw disk all the same, add format=raw"
    ))]
    Foreign {
        /// The image.
        path: PathBuf,
        /// What it looks like.
        format: &'static str,
    },
    /// A file that begins as qcow2 does and is not named so.
    #[error("the disk image {} begins like qcow2, but its name does not end in .qcow2", path.display())]
    #[diagnostic(help("add format=qcow2 if it is one, or format=raw if a guest wrote that to its raw disk"))]
    Ambiguous {
        /// The image.
        path: PathBuf,
    },
    /// Said or named to be qcow2.
    #[error("the disk image {} is to be qcow2, but does not begin like it", path.display())]
    #[diagnostic(help("add format=raw if it is a raw disk; otherwise it is damaged"))]
    NotQcow2 {
        /// The image.
        path: PathBuf,
    },
    /// A qcow2 header that is damaged or asks for what is not supported.
    #[error("the qcow2 image {} cannot be used", path.display())]
    #[diagnostic(help("{}", source.help()))]
    Header {
        /// The image.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: HeaderError,
    },
    /// The library that reads qcow2 refuses it.
    #[error("the qcow2 image {} cannot be used", path.display())]
    #[diagnostic(help("it may be damaged: `qemu-img check` tells, and `qemu-img check -r all` repairs"))]
    Qcow2 {
        /// The image.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: io::Error,
    },
    /// A backing file that nobody allowed.
    #[error("the qcow2 image {} is based on {backing}, which is not allowed", path.display())]
    #[diagnostic(help(
        "whoever made the image chose that file, and the guest can read it. If that is right, add backing=on to the disk"
    ))]
    BackingRefused {
        /// The image.
        path: PathBuf,
        /// What its header names.
        backing: String,
    },
    /// A backing file of an unknown format.
    #[error("the qcow2 image {} does not say which format {backing} has, which it is based on", path.display())]
    #[diagnostic(help("write it into the image: qemu-img rebase -u -b BACKING -F raw|qcow2 IMAGE"))]
    BackingFormat {
        /// The image.
        path: PathBuf,
        /// What its header names.
        backing: String,
    },
    /// Backing files that are based on each other.
    #[error("the qcow2 image {} is based on itself, through {}", path.display(), backing.display())]
    #[diagnostic(help("its chain of backing files is a loop: correct it with qemu-img rebase -u"))]
    BackingLoop {
        /// The image that was to be opened.
        path: PathBuf,
        /// The file that appears twice.
        backing: PathBuf,
    },
    /// More backing files than anybody needs.
    #[error("the qcow2 image {} is based on more than {most} files", path.display())]
    #[diagnostic(help("merge some of them: qemu-img rebase, or qemu-img convert into one image"))]
    BackingDepth {
        /// The image that was to be opened.
        path: PathBuf,
        /// How many may be.
        most: usize,
    },
    /// Something is wrong with a backing file.
    #[error("the qcow2 image {} cannot be used with what it is based on", path.display())]
    #[diagnostic(help("{}", source.help().map(|help| help.to_string()).unwrap_or_default()))]
    Backing {
        /// The image.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: Box<DiskError>,
    },
}

/// Why a disk cannot be made larger.
#[derive(Debug, Error, Diagnostic)]
pub enum GrowError {
    /// Nothing about it can be changed.
    #[error("the disk is read-only")]
    #[diagnostic(help("enlarge the image with qemu-img resize or truncate, and start the machine again"))]
    ReadOnly,
    /// It would become smaller.
    #[error("the disk has {has} bytes, {asked} are fewer")]
    #[diagnostic(help("a disk can only grow: what lies at its end would be lost"))]
    Shrink {
        /// Bytes it has.
        has: u64,
        /// Bytes it is to have.
        asked: u64,
    },
    /// Not all of it would be of use.
    #[error("{asked} bytes are no whole number of blocks of {block} bytes")]
    #[diagnostic(help("give a multiple of {block}"))]
    Unaligned {
        /// Bytes it is to have.
        asked: u64,
        /// Bytes of a block.
        block: u32,
    },
    /// The host refuses.
    #[error("the disk image cannot be made {asked} bytes large")]
    #[diagnostic(help("look whether its file system has room, and allows files so large"))]
    Image {
        /// Bytes it is to have.
        asked: u64,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

fn open_help(source: &io::Error, writable: bool) -> &'static str {
    match (source.kind(), writable) {
        (io::ErrorKind::NotFound, _) => "check the path. An empty one is made with `truncate -s 8G FILE`",
        (io::ErrorKind::ReadOnlyFilesystem, true) => {
            "its file system is mounted read-only: add `ro` to it, or use a copy"
        }
        (io::ErrorKind::PermissionDenied, true) => "grant access to it, or add `ro` if reading is enough",
        (io::ErrorKind::PermissionDenied, false) => "grant access to it",
        (io::ErrorKind::ResourceBusy, _) => {
            "the device is mounted or otherwise in use on the host: release it"
        }
        _ => "check the path, and `dmesg` for errors of the device it is on",
    }
}

fn locked_help(holders: &[String], writable: bool) -> String {
    let who = match holders {
        [] => String::new(),
        some => format!("{} has it open. ", some.join(", ")),
    };
    let what = if writable {
        "Only one can write to it: end the other, or give this machine a file of its own"
    } else {
        "It is being written to: end the other first"
    };
    format!("{who}{what}")
}
