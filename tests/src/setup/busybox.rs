//! The user space of hosts and guests: Debian's static busybox.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::SetupError;
use super::apt::Apt;
use super::cache::{self, Cache};
use crate::files::During;
use crate::tool;

/// A busybox and the names it goes by.
#[derive(Debug, Clone)]
pub(crate) struct Busybox {
    directory: PathBuf,
    /// Each is to be a link to the program.
    pub(crate) applets: Vec<String>,
}

impl Busybox {
    pub(super) fn find(cache: &Cache) -> Result<Option<Busybox>, SetupError> {
        cache.find("busybox", &Self::key()).map(Self::load).transpose()
    }

    pub(super) fn ensure(cache: &Cache, apt: &mut Apt, renew: bool) -> Result<Busybox, SetupError> {
        if !renew && let Some(busybox) = Self::find(cache)? {
            return Ok(busybox);
        }
        let package = apt.newest("^busybox-static$")?;
        let directory = cache.place("busybox", &Self::key(), &package.version);
        if !directory.exists() {
            let unpacked = cache.work("busybox")?.join(&package.version);
            apt.unpack(&package, &unpacked)?;
            cache.stage(&directory, |part| {
                let from = ["bin/busybox", "usr/bin/busybox"].map(|path| unpacked.join(path));
                let from = from
                    .iter()
                    .find(|path| path.is_file())
                    .ok_or_else(|| SetupError::NotThere { what: "busybox", path: unpacked.clone() })?;
                let program = part.join("busybox");
                fs::copy(from, &program).during("copy", from)?;
                let applets = tool::capture(Command::new(&program).arg("--list"))?;
                let list = part.join("applets");
                fs::write(&list, applets).during("write", &list)?;
                Ok(())
            })?;
        }
        Self::load(directory)
    }

    fn load(directory: PathBuf) -> Result<Busybox, SetupError> {
        let list = directory.join("applets");
        let applets = fs::read_to_string(&list).during("read", &list)?;
        Ok(Busybox { directory, applets: applets.lines().map(str::to_owned).collect() })
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The program, static.
    pub(crate) fn program(&self) -> PathBuf {
        self.directory.join("busybox")
    }

    fn key() -> String {
        cache::key(&[b"busybox 1"])
    }
}
