//! vhost-user daemons as Debian has them, with the libraries that they load: what an empty system would be given, and of that
//! what the programs need.

use std::fs;
use std::path::{Path, PathBuf};

use super::SetupError;
use super::apt::Apt;
use super::cache::{self, Cache};
use super::programs::{self, LOADER, RELEASE};
use crate::files::During;
use crate::tool::announce;

/// Each with the package that brings it.
const PROGRAMS: [(&str, &str); 3] = [
    ("usr/libexec/virtiofsd", "virtiofsd"),
    ("usr/bin/qemu-storage-daemon", "qemu-utils"),
    ("usr/bin/passt", "passt"),
];

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
            cache.stage(&directory, |part| {
                let take = |(program, _): (&str, _)| {
                    let name = Path::new(program).file_name().unwrap_or_default();
                    programs::take(&unpacked, program, &part.join(name))
                };
                PROGRAMS.into_iter().try_for_each(take)
            })?;
            announce("took vhost-user daemons and their libraries");
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

#[cfg(test)]
#[path = "daemons_test.rs"]
mod tests;
