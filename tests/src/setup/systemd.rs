//! systemd as Debian has it, for the cases that are about our unit: manager, journal and tools with what they load and the few
//! units that a machine's unit depends on. It is an archive for the root of a host, which is unpacked where it is wanted.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::SetupError;
use super::apt::Apt;
use super::cache::{self, Cache};
use super::programs::{LIBRARIES, LOADER, RELEASE, loaded};
use crate::files::During;
use crate::tool::{self, announce};

const PROGRAMS: [&str; 6] = [
    "usr/lib/systemd/systemd",
    "usr/lib/systemd/systemd-executor",
    "usr/lib/systemd/systemd-journald",
    "usr/bin/systemctl",
    "usr/bin/systemd-analyze",
    "usr/bin/journalctl",
];
/// Where its own libraries are, below [`LIBRARIES`].
const OWN: &str = "systemd";
/// Where its units are.
const UNITS: &str = "usr/lib/systemd/system";
/// What `vmm@.service` names or implies, the journal, and the way out of a container.
const WANTED: [&str; 18] = [
    "basic.target",
    "exit.target",
    "final.target",
    "local-fs.target",
    "multi-user.target",
    "network.target",
    "paths.target",
    "shutdown.target",
    "slices.target",
    "sockets.target",
    "swap.target",
    "sysinit.target",
    "systemd-exit.service",
    "systemd-journald-dev-log.socket",
    "systemd-journald.service",
    "systemd-journald.socket",
    "timers.target",
    "umount.target",
];
/// Links below [`UNITS`].
const LINKS: [(&str, &str); 4] = [
    ("default.target", "basic.target"),
    ("sockets.target.wants/systemd-journald-dev-log.socket", "../systemd-journald-dev-log.socket"),
    ("sockets.target.wants/systemd-journald.socket", "../systemd-journald.socket"),
    ("sysinit.target.wants/systemd-journald.service", "../systemd-journald.service"),
];
/// The archive's name in the artefact.
const ARCHIVE: &str = "systemd.tar";

/// The archive.
#[derive(Debug, Clone)]
pub(crate) struct Systemd {
    directory: PathBuf,
}

impl Systemd {
    pub(super) fn find(cache: &Cache) -> Option<Systemd> {
        cache.find("systemd", &Self::key()).map(|directory| Systemd { directory })
    }

    pub(super) fn ensure(cache: &Cache, renew: bool) -> Result<Systemd, SetupError> {
        if !renew && let Some(systemd) = Self::find(cache) {
            return Ok(systemd);
        }
        let mut apt = Apt::of_release(cache, RELEASE);
        let version = apt.newest("^systemd$")?.version;
        let directory = cache.place("systemd", &Self::key(), &version);
        if !directory.exists() {
            let work = cache.work("systemd")?;
            let (unpacked, root) = (work.join(&version), work.join("root"));
            apt.unpack_whole(&["systemd"], &unpacked)?;
            take(&unpacked, &root)?;
            cache.stage(&directory, |part| {
                let mut archive = Command::new("tar");
                archive.args(["--create", "--owner=0", "--group=0", "--file"]).arg(part.join(ARCHIVE));
                tool::capture(archive.arg("--directory").arg(&root).arg("."))?;
                Ok(())
            })?;
            announce("took systemd and its libraries");
        }
        Ok(Systemd { directory })
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// What is to be unpacked at a host's root.
    pub(crate) fn archive(&self) -> PathBuf {
        self.directory.join(ARCHIVE)
    }

    fn key() -> String {
        let links = LINKS.map(|(link, to)| format!("{link} {to}"));
        let inputs = [PROGRAMS.join(" "), WANTED.join(" "), links.join(" ")].join("\n");
        cache::key(&[b"systemd 1", RELEASE.as_bytes(), inputs.as_bytes()])
    }
}

/// Puts the root of the archive together out of the unpacked packages.
fn take(unpacked: &Path, root: &Path) -> Result<(), SetupError> {
    // What an interrupted setup has left.
    if root.exists() {
        fs::remove_dir_all(root).during("empty", root)?;
    }
    let libraries = unpacked.join(LIBRARIES);
    copy(&libraries.join(LOADER), &root.join("lib64").join(LOADER))?;
    for program in PROGRAMS {
        let from = unpacked.join(program);
        copy(&from, &root.join(program))?;
        let mut list = Command::new(libraries.join(LOADER));
        let places = format!("{}:{}", libraries.display(), libraries.join(OWN).display());
        let list = tool::capture(list.args(["--library-path", &places, "--list"]).arg(&from))?;
        for library in loaded(&list, &libraries) {
            let to = Path::new(library).strip_prefix(unpacked).unwrap_or(Path::new(library));
            copy(Path::new(library), &root.join(to))?;
        }
    }
    for unit in WANTED {
        copy(&unpacked.join(UNITS).join(unit), &root.join(UNITS).join(unit))?;
    }
    for (link, to) in LINKS {
        let link = root.join(UNITS).join(link);
        let directory = link.parent().unwrap_or(root);
        fs::create_dir_all(directory).during("create", directory)?;
        symlink(to, &link).during("create", &link)?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<(), SetupError> {
    let directory = to.parent().unwrap_or(to);
    fs::create_dir_all(directory).during("create", directory)?;
    fs::copy(from, to).during("copy", from)?;
    Ok(())
}
