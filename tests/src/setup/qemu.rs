//! A QEMU that is new enough: the system's, or one of Debian's backports in the cache, with the libraries that it loads.
//!
//! Older ones lose interrupts under nested guests now and then. A CPU that leaves a guest clears a bit in a word which other threads
//! set bits in, and did so without either of them knowing (`do_vmexit` in target/i386/tcg/system/svm_helper.c); a timer interrupt
//! that came at that moment was forgotten, and with it the CPU.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::SetupError;
use super::apt::Apt;
use super::cache::{self, Cache};
use super::programs::{self, LOADER, RELEASE};
use crate::files::During;
use crate::tool::{self, announce};

/// Major and minor of the oldest that will do.
const OLDEST: (u32, u32) = (10, 2);
const NAME: &str = "qemu-system-x86_64";
const PACKAGE: &str = "qemu-system-x86";
/// Where packages have its firmware, and where the cache has it.
const FIRMWARE: [&str; 2] = ["usr/share/qemu", "usr/share/seabios"];
const SHARE: &str = "share";

/// How to start it.
#[derive(Debug, Clone)]
pub(crate) struct Qemu {
    /// Where it is with all that it needs, unless it is the system's.
    directory: Option<PathBuf>,
}

impl Qemu {
    /// The system's if it will do, else the cache's if it is there.
    pub(super) fn find(cache: &Cache) -> Option<Qemu> {
        match tool::capture(Command::new(NAME).arg("--version")) {
            Ok(text) if will_do(&text) => Some(Qemu { directory: None }),
            _ => cache.find("qemu", &Self::key()).map(|directory| Qemu { directory: Some(directory) }),
        }
    }

    pub(super) fn ensure(cache: &Cache, renew: bool) -> Result<Qemu, SetupError> {
        if let Some(qemu) = Self::find(cache).filter(|qemu| !renew || qemu.directory.is_none()) {
            return Ok(qemu);
        }
        let mut apt = Apt::of_backports(cache, RELEASE);
        let version = apt.newest(&format!("^{PACKAGE}$"))?.version;
        // Without the epoch: a loader takes a colon in a path for the end of it.
        let version = version.rsplit(':').next().unwrap_or(&version);
        let directory = cache.place("qemu", &Self::key(), version);
        if !directory.exists() {
            let unpacked = cache.work("qemu")?.join(version);
            apt.unpack_whole(&[PACKAGE], &unpacked)?;
            cache.stage(&directory, |part| take(&unpacked, part))?;
        }
        Ok(Qemu { directory: Some(directory) })
    }

    /// Where it is with all that it needs; `None` for the system's.
    pub(super) fn directory(&self) -> Option<&Path> {
        self.directory.as_deref()
    }

    /// It, with no arguments of the caller's yet.
    pub(crate) fn command(&self) -> Command {
        let Some(directory) = &self.directory else { return Command::new(NAME) };
        let [loader, arguments @ ..] = Self::words_at(&directory.to_string_lossy());
        let mut command = Command::new(loader);
        command.args(arguments);
        // Else it would load the system's, which are another version's.
        command.env("QEMU_MODULE_DIR", directory);
        command
    }

    /// A directory to put under /lab in a host, and how it starts there.
    pub(crate) fn in_a_host(&self) -> Result<(PathBuf, Vec<String>), SetupError> {
        let name =
            |directory: &PathBuf| directory.file_name().map(|name| name.to_string_lossy().into_owned());
        let Some((directory, name)) =
            self.directory.clone().and_then(|path| name(&path).map(|name| (path, name)))
        else {
            // The system's is strewn over the system, and not the one that others would measure beside.
            let missing =
                vec!["a QEMU of the cache's own, since this machine's cannot be put into a host".to_owned()];
            return Err(SetupError::Missing { missing, packages: vec![PACKAGE.to_owned()] });
        };
        Ok((directory, Self::words_at(&format!("/lab/{name}")).to_vec()))
    }

    /// How it starts from its directory.
    fn words_at(directory: &str) -> [String; 6] {
        let file = |name: &str| format!("{directory}/{name}");
        [file(LOADER), "--library-path".into(), directory.into(), file(NAME), "-L".into(), file(SHARE)]
    }

    fn key() -> String {
        cache::key(&[b"qemu 1", RELEASE.as_bytes(), PACKAGE.as_bytes()])
    }
}

/// Takes it out of the unpacked packages, with its firmware.
fn take(unpacked: &Path, part: &Path) -> Result<(), SetupError> {
    programs::take(unpacked, &format!("usr/bin/{NAME}"), part)?;
    let share = part.join(SHARE);
    fs::create_dir(&share).during("create", &share)?;
    for directory in FIRMWARE.map(|directory| unpacked.join(directory)) {
        for entry in fs::read_dir(&directory).during("read", &directory)? {
            let path = entry.during("read", &directory)?.path();
            if path.is_file() && path.extension().is_some_and(|kind| kind == "bin" || kind == "rom") {
                programs::copy(&path, &share)?;
            }
        }
    }
    let version = Qemu { directory: Some(part.to_owned()) }.command().arg("--version").output();
    let version = version.during("run", part)?.stdout;
    if !will_do(&String::from_utf8_lossy(&version)) {
        let missing = vec![format!("QEMU {}.{} or newer", OLDEST.0, OLDEST.1)];
        return Err(SetupError::Missing { missing, packages: vec![PACKAGE.to_owned()] });
    }
    announce("took QEMU and its libraries");
    Ok(())
}

/// Whether a QEMU that says this of itself is new enough: `QEMU emulator version 11.1.3 (Debian ...)`.
fn will_do(text: &str) -> bool {
    let version = || {
        let mut numbers = text.split_once("version ")?.1.split(['.', ' ', '\n']);
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    };
    version().is_some_and(|version: (u32, u32)| version >= OLDEST)
}

#[cfg(test)]
#[path = "qemu_test.rs"]
mod tests;
