//! The kernels of lab hosts and of their guests, built from Debian's source on `make tinyconfig`, the options in tests/lab and, for
//! hosts, the patches there.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::SetupError;
use super::apt::{Apt, Package};
use super::cache::{self, Cache};
use crate::files::During;
use crate::tool::{self, ToolError, announce};

/// Bumped when the build itself changes.
const RECIPE: &[u8] = b"kernel 2";
/// In this order: iommufd maps a memfd by its descriptor since 6.13.
const SOURCES: [Source; 2] = [
    Source { package: r"^linux-source-7\.[0-9]+$", patches: &[INJECTION, VECTORING] },
    // It does not look at what the second patch is about.
    Source { package: r"^linux-source-6\.12$", patches: &[INJECTION] },
];
/// What hosts need on a CPU of QEMU's.
const INJECTION: &str = include_str!("../../lab/kvm-injection.patch");
const VECTORING: &str = include_str!("../../lab/kvm-vectoring.patch");

/// Where a kernel's source is.
struct Source {
    /// A regular expression.
    package: &'static str,
    /// What is changed in it.
    patches: &'static [&'static str],
}

/// Whose kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    /// All that vmm is about, and what watches it.
    Hosts,
    /// Small and quick, since most cases boot it.
    Guests,
}

impl Of {
    /// The name of its artefact.
    fn name(self) -> &'static str {
        match self {
            Of::Hosts => "kernel",
            Of::Guests => "guest",
        }
    }

    fn options(self) -> String {
        let own = match self {
            Of::Hosts => include_str!("../../lab/host.config"),
            Of::Guests => include_str!("../../lab/guest.config"),
        };
        format!("{}{own}", include_str!("../../lab/kernel.config"))
    }

    fn key(self) -> String {
        let options = self.options();
        match self {
            Of::Hosts => {
                cache::key(&[RECIPE, options.as_bytes(), INJECTION.as_bytes(), VECTORING.as_bytes()])
            }
            // Nothing that the patches change is in it.
            Of::Guests => cache::key(&[RECIPE, options.as_bytes()]),
        }
    }
}

/// A kernel.
#[derive(Debug, Clone)]
pub(crate) struct Kernel {
    directory: PathBuf,
    /// What `uname -r` says under it.
    pub(crate) release: String,
}

impl Kernel {
    pub(super) fn find(cache: &Cache, of: Of) -> Result<Option<Kernel>, SetupError> {
        cache.find(of.name(), &of.key()).map(Self::load).transpose()
    }

    pub(super) fn ensure(cache: &Cache, apt: &mut Apt, of: Of, renew: bool) -> Result<Kernel, SetupError> {
        if !renew && let Some(kernel) = Self::find(cache, of)? {
            return Ok(kernel);
        }
        let (package, patches) = source_package(apt)?;
        let directory = cache.place(of.name(), &of.key(), &package.version);
        if !directory.exists() {
            // Both are built from one tree, which goes with the rest of the work when all is made.
            let patches = patches.concat();
            let tree = format!("linux-{}-{}", package.version, cache::key(&[patches.as_bytes()]));
            let source = unpack(apt, &package, &patches, &cache.work(&tree)?)?;
            let work = cache.work(&format!("{}-{}-{}", of.name(), of.key(), package.version))?;
            let tree = Tree { source, build: work.join("build") };
            tree.configure(&of.options(), &work)?;
            tree.build(of, &work)?;
            cache.stage(&directory, |part| tree.take(part))?;
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
}

/// The newest source, and what is changed in it.
fn source_package(apt: &mut Apt) -> Result<(Package, &'static [&'static str]), SetupError> {
    let [newer, older] = SOURCES;
    let (package, source) = match apt.newest(newer.package) {
        Err(SetupError::NoPackage { .. }) => {
            announce("no Linux 7 source is to be had, taking 6.12");
            (apt.newest(older.package)?, older)
        }
        other => (other?, newer),
    };
    Ok((package, source.patches))
}

/// The source tree with these patches, in the directory `work`.
fn unpack(apt: &mut Apt, package: &Package, patches: &str, work: &Path) -> Result<PathBuf, SetupError> {
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
    let file = work.join("patches");
    fs::write(&file, patches).during("write", &file)?;
    tool::capture(
        Command::new("patch").args(["--strip=1", "--input"]).arg(&file).arg("--directory").arg(&part),
    )?;
    fs::rename(&part, &tree).during("put in place", &tree)?;
    fs::remove_dir_all(&unpacked).during("remove", &unpacked)?;
    Ok(tree)
}

/// Where a kernel is built, and from what.
struct Tree {
    source: PathBuf,
    build: PathBuf,
}

impl Tree {
    fn configure(&self, options: &str, work: &Path) -> Result<(), SetupError> {
        announce("configuring the kernel");
        fs::create_dir_all(&self.build).during("create", &self.build)?;
        let fragment = work.join("fragment.config");
        fs::write(&fragment, options).during("write", &fragment)?;
        tool::capture(self.make().arg("tinyconfig"))?;
        let config = self.build.join(".config");
        let mut merge = Command::new("scripts/kconfig/merge_config.sh");
        merge.current_dir(&self.source).arg("-m").arg("-O").arg(&self.build);
        tool::capture(merge.arg(&config).arg(&fragment))?;
        tool::capture(self.make().arg("olddefconfig"))?;
        let result = fs::read_to_string(&config).during("read", &config)?;
        let options = dropped(options, &result);
        if options.is_empty() { Ok(()) } else { Err(SetupError::Options { options }) }
    }

    fn build(&self, of: Of, work: &Path) -> Result<(), SetupError> {
        let what = match of {
            Of::Hosts => "building the kernel of hosts",
            Of::Guests => "building the kernel of guests",
        };
        let jobs = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        let mut command = self.make();
        command.arg(format!("-j{jobs}")).arg("vmlinux");
        Ok(tool::with_progress(what, &mut command, &work.join("build.log"))?)
    }

    /// Copies what is kept of it.
    fn take(&self, part: &Path) -> Result<(), SetupError> {
        for (from, to) in [("vmlinux", "vmlinux"), (".config", "config")] {
            let from = self.build.join(from);
            fs::copy(&from, part.join(to)).during("copy", &from)?;
        }
        let release =
            self.make().args(["-s", "kernelrelease"]).output().during("run make in", &self.build)?;
        let file = part.join("release");
        fs::write(&file, release.stdout).during("write", &file)?;
        Ok(())
    }

    fn make(&self) -> Command {
        let mut command = Command::new("make");
        command.arg("-C").arg(&self.source).arg(format!("O={}", self.build.display()));
        command.args(["KBUILD_BUILD_USER=lab", "KBUILD_BUILD_HOST=lab", "KBUILD_BUILD_TIMESTAMP=1970-01-01"]);
        // This tool may itself have been started by a make with other ideas.
        command.env_remove("MAKEFLAGS").env_remove("MAKELEVEL");
        command
    }
}

/// Options that `fragment` asks for and `config` does not have, each once. Of one that is asked for twice the last counts.
fn dropped(fragment: &str, config: &str) -> Vec<String> {
    let mut dropped: Vec<String> = Vec::new();
    let asked: BTreeMap<&str, &str> =
        fragment.lines().filter_map(|line| line.trim().split_once('=')).collect();
    for (option, value) in asked {
        let line = format!("{option}={value}");
        let off = format!("# {option} is not set");
        let set = format!("{option}=");
        let there = match value {
            "n" => config.lines().all(|line| line == off || !line.starts_with(&set)),
            _ => config.lines().any(|found| found == line),
        };
        if !there {
            dropped.push(option.to_owned());
        }
    }
    dropped
}

#[cfg(test)]
#[path = "kernel_test.rs"]
mod tests;
