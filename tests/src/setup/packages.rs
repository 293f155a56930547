//! Programs and files that the lab and the unit tests use, and the Debian packages that bring them.

use std::path::Path;
use std::process::Command;

use super::SetupError;
use crate::tool::{self, announce};

pub(super) enum Need {
    /// A program on the path, or in a system directory that users' paths lack.
    Program(&'static str),
    /// One of these files.
    File(&'static [&'static str]),
}

/// A need, and its package in Debian.
type Needed = (Need, &'static str);

/// What a Debian is put on a disk with.
pub(super) const INSTALLER: [Needed; 3] = [
    (Need::Program("mmdebstrap"), "mmdebstrap"),
    (Need::Program("sfdisk"), "fdisk"),
    (Need::Program("mkfs.ext4"), "e2fsprogs"),
];

/// What is always needed.
pub(super) const USUAL: [Needed; 17] = [
    (Need::Program("gcc"), "gcc"),
    (Need::File(&["/usr/lib/x86_64-linux-gnu/libc.a", "/usr/lib64/libc.a", "/usr/lib/libc.a"]), "libc6-dev"),
    (Need::Program("nm"), "binutils"),
    (Need::Program("make"), "make"),
    (Need::Program("flex"), "flex"),
    (Need::Program("bison"), "bison"),
    (Need::Program("bc"), "bc"),
    (Need::Program("perl"), "perl"),
    (Need::Program("cpio"), "cpio"),
    (Need::Program("xz"), "xz-utils"),
    (Need::Program("tar"), "tar"),
    (Need::Program("patch"), "patch"),
    (Need::Program("depmod"), "kmod"),
    (Need::Program("iasl"), "acpica-tools"),
    (Need::File(&["/usr/include/libelf.h"]), "libelf-dev"),
    (Need::File(&["/usr/include/openssl/opensslv.h"]), "libssl-dev"),
    (Need::File(&["/usr/share/keyrings/debian-archive-keyring.gpg"]), "debian-archive-keyring"),
];

/// Installs what is missing where that is possible, and else says what it is.
pub(super) fn ensure(needs: &[Needed]) -> Result<(), SetupError> {
    let (missing, packages) = missing(needs);
    if missing.is_empty() {
        return Ok(());
    }
    if !can_install() {
        return Err(SetupError::Missing { missing, packages });
    }
    announce(&format!("installing {}", packages.join(" ")));
    tool::show(apt_get().arg("update"))?;
    tool::show(apt_get().args(["install", "--yes", "--no-install-recommends"]).args(&packages))?;
    let (missing, packages) = self::missing(needs);
    if missing.is_empty() { Ok(()) } else { Err(SetupError::Missing { missing, packages }) }
}

/// Whether Debian packages can be installed here.
fn can_install() -> bool {
    rustix::process::geteuid().is_root() && find_program("apt-get").is_some()
}

fn missing(needs: &[Needed]) -> (Vec<String>, Vec<String>) {
    let absent = needs.iter().filter_map(|(need, package)| match need {
        Need::Program(name) => {
            find_program(name).is_none().then(|| ((*name).to_owned(), (*package).to_owned()))
        }
        Need::File(paths) => {
            let absent = !paths.iter().any(|path| Path::new(path).exists());
            absent.then(|| (paths.first().copied().unwrap_or_default().to_owned(), (*package).to_owned()))
        }
    });
    absent.unzip()
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// The path of a program, system directories included.
pub(super) fn find_program(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
}
