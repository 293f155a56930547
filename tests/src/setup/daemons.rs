//! vhost-user daemons as Debian has them, with the libraries that they load: what an empty system would be given, and of that
//! what the programs need.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::SetupError;
use super::apt::Apt;
use super::cache::{self, Cache};
use crate::files::During;
use crate::tool::{self, announce};

/// The release that they are of.
const RELEASE: &str = "trixie";
/// Each with the package that brings it.
const PROGRAMS: [(&str, &str); 2] =
    [("usr/libexec/virtiofsd", "virtiofsd"), ("usr/bin/qemu-storage-daemon", "qemu-utils")];
/// Where its packages have libraries.
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
/// The program that loads them.
const LOADER: &str = "ld-linux-x86-64.so.2";

/// The daemons, each in a directory with what it loads, the loader included.
#[derive(Debug, Clone)]
pub(crate) struct Daemons {
    directory: PathBuf,
}

impl Daemons {
    pub(super) fn find(cache: &Cache) -> Option<Daemons> {
        cache.find("daemons", &Self::key()).map(|directory| Daemons { directory })
    }

    pub(super) fn ensure(cache: &Cache, renew: bool) -> Result<Daemons, SetupError> {
        if !renew && let Some(daemons) = Self::find(cache) {
            return Ok(daemons);
        }
        let mut apt = Apt::of_release(cache, RELEASE);
        let version = apt.newest("^virtiofsd$")?.version;
        let directory = cache.place("daemons", &Self::key(), &version);
        if !directory.exists() {
            let unpacked = cache.work("daemons")?.join(&version);
            apt.unpack_whole(&PROGRAMS.map(|(_, package)| package), &unpacked)?;
            cache.stage(&directory, |part| take(&unpacked, part))?;
        }
        Ok(Daemons { directory })
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// All files of the daemon `name`, itself among them.
    pub(crate) fn files(&self, name: &str) -> Result<Vec<PathBuf>, SetupError> {
        let directory = self.directory.join(name);
        let entries = fs::read_dir(&directory).during("read", &directory)?;
        let path = |entry: std::io::Result<fs::DirEntry>| Ok(entry.during("read", &directory)?.path());
        entries.map(path).collect()
    }

    /// Where in a host a file is to be: the loader and libraries where programs look for them.
    pub(crate) fn place(file: &Path) -> String {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let directory = match () {
            () if name == LOADER => "/lib64",
            () if name.contains(".so.") => "/lib/x86_64-linux-gnu",
            () => "/lab",
        };
        format!("{directory}/{name}")
    }

    fn key() -> String {
        let packages = PROGRAMS.map(|(program, package)| format!("{program} {package}")).join(" ");
        cache::key(&[b"daemons 2", RELEASE.as_bytes(), packages.as_bytes()])
    }
}

/// Takes the programs out of the unpacked packages, and what they load.
fn take(unpacked: &Path, part: &Path) -> Result<(), SetupError> {
    let libraries = unpacked.join(LIBRARIES);
    let copy = |from: &Path, directory: &str| -> Result<(), SetupError> {
        let directory = part.join(directory);
        fs::create_dir_all(&directory).during("create", &directory)?;
        let to = directory.join(from.file_name().unwrap_or_default());
        fs::copy(from, &to).during("copy", from)?;
        Ok(())
    };
    for (program, _) in PROGRAMS {
        let program = unpacked.join(program);
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        copy(&program, &name)?;
        let mut list = Command::new(libraries.join(LOADER));
        let list = tool::capture(list.arg("--library-path").arg(&libraries).arg("--list").arg(&program))?;
        for library in loaded(&list, &libraries) {
            copy(Path::new(library), &name)?;
        }
    }
    announce("took vhost-user daemons and their libraries");
    Ok(())
}

/// What a loader says that it loads from a directory.
fn loaded<'a>(list: &'a str, from: &Path) -> Vec<&'a str> {
    let path = |line: &'a str| line.split_once("=> ")?.1.split_whitespace().next();
    list.lines().filter_map(path).filter(|path| Path::new(path).starts_with(from)).collect()
}

#[cfg(test)]
#[path = "daemons_test.rs"]
mod tests;
