//! The kernel of lab hosts, built from Debian's source on `make tinyconfig` and the options in
//! tests/lab/kernel.config. Its ELF image is also the small, fast kernel of guests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::SetupError;
use super::apt::{Apt, Package};
use super::cache::{self, Cache};
use crate::files::During;
use crate::tool::{self, ToolError, announce};

const FRAGMENT: &str = include_str!("../../lab/kernel.config");
/// Bumped when the build itself changes.
const RECIPE: &[u8] = b"kernel 1";
/// In this order: iommufd maps a memfd by its descriptor since 6.13.
const SOURCES: [&str; 2] = [r"^linux-source-7\.[0-9]+$", r"^linux-source-6\.12$"];

/// The kernel of lab hosts.
#[derive(Debug, Clone)]
pub(crate) struct Kernel {
    directory: PathBuf,
    /// What `uname -r` says under it.
    pub(crate) release: String,
}

impl Kernel {
    pub(super) fn find(cache: &Cache) -> Result<Option<Kernel>, SetupError> {
        cache.find("kernel", &Self::key()).map(Self::load).transpose()
    }

    pub(super) fn ensure(cache: &Cache, apt: &mut Apt, renew: bool) -> Result<Kernel, SetupError> {
        if !renew && let Some(kernel) = Self::find(cache)? {
            return Ok(kernel);
        }
        let package = source_package(apt)?;
        let directory = cache.place("kernel", &Self::key(), &package.version);
        if !directory.exists() {
            let work = cache.work(&format!("kernel-{}-{}", Self::key(), package.version))?;
            let tree = unpack(apt, &package, &work)?;
            configure(&tree, &work)?;
            build(&tree, &work)?;
            let release = make(&tree).args(["-s", "kernelrelease"]).output();
            let release = release.during("run make in", &tree)?.stdout;
            cache.stage(&directory, |part| take(&tree, &release, part))?;
            fs::remove_dir_all(&work).during("remove", &work)?;
        }
        Self::load(directory)
    }

    fn load(directory: PathBuf) -> Result<Kernel, SetupError> {
        let file = directory.join("release");
        let release = fs::read_to_string(&file).during("read", &file)?.trim().to_owned();
        Ok(Kernel { directory, release })
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The ELF image, with a PVH entry.
    pub(crate) fn vmlinux(&self) -> PathBuf {
        self.directory.join("vmlinux")
    }

    /// Its table of symbols, a line each: address, kind and name.
    pub(crate) fn symbols(&self) -> Result<String, ToolError> {
        tool::capture(Command::new("nm").arg(self.vmlinux()))
    }

    fn key() -> String {
        cache::key(&[RECIPE, FRAGMENT.as_bytes()])
    }
}

fn source_package(apt: &mut Apt) -> Result<Package, SetupError> {
    let [newer, older] = SOURCES;
    match apt.newest(newer) {
        Err(SetupError::NoPackage { .. }) => {
            announce("no Linux 7 source is to be had, taking 6.12");
            apt.newest(older)
        }
        other => other,
    }
}

/// The source tree, in the directory `work`.
fn unpack(apt: &mut Apt, package: &Package, work: &Path) -> Result<PathBuf, SetupError> {
    let tree = work.join("linux");
    if tree.exists() {
        announce("taking up an interrupted build of the kernel");
        return Ok(tree);
    }
    let unpacked = work.join("package");
    apt.unpack(package, &unpacked)?;
    let part = work.join("linux.part");
    if part.exists() {
        fs::remove_dir_all(&part).during("empty", &part)?;
    }
    fs::create_dir(&part).during("create", &part)?;
    announce(&format!("unpacking the source of Linux {}", package.version));
    let archive = unpacked.join(format!("usr/src/{}.tar.xz", package.name));
    let options = ["--extract", "--strip-components=1", "--file"];
    tool::capture(Command::new("tar").args(options).arg(&archive).arg("--directory").arg(&part))?;
    fs::rename(&part, &tree).during("put in place", &tree)?;
    fs::remove_dir_all(&unpacked).during("remove", &unpacked)?;
    Ok(tree)
}

fn configure(tree: &Path, work: &Path) -> Result<(), SetupError> {
    announce("configuring the kernel");
    let fragment = work.join("fragment.config");
    fs::write(&fragment, FRAGMENT).during("write", &fragment)?;
    tool::capture(make(tree).arg("tinyconfig"))?;
    let mut merge = Command::new("scripts/kconfig/merge_config.sh");
    tool::capture(merge.current_dir(tree).arg("-m").arg(".config").arg(&fragment))?;
    tool::capture(make(tree).arg("olddefconfig"))?;
    let config = tree.join(".config");
    let result = fs::read_to_string(&config).during("read", &config)?;
    let options = dropped(FRAGMENT, &result);
    if options.is_empty() { Ok(()) } else { Err(SetupError::Options { options }) }
}

/// Options that `fragment` asks for and `config` does not have, each once.
fn dropped(fragment: &str, config: &str) -> Vec<String> {
    let mut dropped: Vec<String> = Vec::new();
    for line in fragment.lines().map(str::trim) {
        let Some((option, value)) = line.split_once('=') else { continue };
        let off = format!("# {option} is not set");
        let set = format!("{option}=");
        let there = match value {
            "n" => config.lines().all(|line| line == off || !line.starts_with(&set)),
            _ => config.lines().any(|found| found == line),
        };
        if !there && !dropped.iter().any(|known| known == option) {
            dropped.push(option.to_owned());
        }
    }
    dropped
}

fn build(tree: &Path, work: &Path) -> Result<(), SetupError> {
    let jobs = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let mut command = make(tree);
    command.arg(format!("-j{jobs}")).arg("vmlinux");
    Ok(tool::with_progress("building the kernel", &mut command, &work.join("build.log"))?)
}

fn make(tree: &Path) -> Command {
    let mut command = Command::new("make");
    command.arg("-C").arg(tree);
    command.args(["KBUILD_BUILD_USER=lab", "KBUILD_BUILD_HOST=lab", "KBUILD_BUILD_TIMESTAMP=1970-01-01"]);
    // This tool may itself have been started by a make with other ideas.
    command.env_remove("MAKEFLAGS").env_remove("MAKELEVEL");
    command
}

fn take(tree: &Path, release: &[u8], part: &Path) -> Result<(), SetupError> {
    for (from, to) in [("vmlinux", "vmlinux"), (".config", "config")] {
        let from = tree.join(from);
        fs::copy(&from, part.join(to)).during("copy", &from)?;
    }
    let file = part.join("release");
    fs::write(&file, release).during("write", &file)?;
    Ok(())
}

#[cfg(test)]
#[path = "kernel_test.rs"]
mod tests;
