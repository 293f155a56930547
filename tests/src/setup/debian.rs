//! A stock kernel: Debian's 6.12 for clouds, with those of its modules that a host or a guest uses.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::SetupError;
use super::apt::Apt;
use super::cache::{self, Cache};
use super::packages::find_program;
use crate::files::During;
use crate::tool::{self, announce};

const PACKAGE: &str = r"^linux-image-6\.12\.[0-9]+.*-cloud-amd64$";

/// With all that these depend on; what is built in, or not built at all, is passed over.
const MODULES: [&str; 20] = [
    "kvm-amd",
    "kvm-intel",
    "vfio-pci",
    "vfio_iommu_type1",
    "nvme",
    "e1000e",
    "virtio_net",
    "virtio_blk",
    "virtio_scsi",
    "virtio-rng",
    "virtio_balloon",
    "virtio_mem",
    "virtiofs",
    "fuse",
    "overlay",
    "tun",
    "vhost_net",
    "vhost_vsock",
    "vmw_vsock_virtio_transport",
    "udmabuf",
];

/// A stock kernel as a distribution installs it.
#[derive(Debug, Clone)]
pub(crate) struct Debian {
    directory: PathBuf,
    /// What `uname -r` says under it.
    pub(crate) release: String,
}

impl Debian {
    pub(super) fn find(cache: &Cache) -> Result<Option<Debian>, SetupError> {
        cache.find("debian", &Self::key()).map(Self::load).transpose()
    }

    pub(super) fn ensure(cache: &Cache, apt: &mut Apt, renew: bool) -> Result<Debian, SetupError> {
        if !renew && let Some(debian) = Self::find(cache)? {
            return Ok(debian);
        }
        let package = apt.newest(PACKAGE)?;
        let directory = cache.place("debian", &Self::key(), &package.version);
        if !directory.exists() {
            let release = package.name.trim_start_matches("linux-image-");
            let unpacked = cache.work("debian")?.join(&package.version);
            apt.unpack(&package, &unpacked)?;
            cache.stage(&directory, |part| take(&unpacked, release, part))?;
        }
        Self::load(directory)
    }

    fn load(directory: PathBuf) -> Result<Debian, SetupError> {
        let file = directory.join("release");
        let release = fs::read_to_string(&file).during("read", &file)?.trim().to_owned();
        Ok(Debian { directory, release })
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The kernel, a bzImage.
    pub(crate) fn vmlinuz(&self) -> PathBuf {
        self.directory.join("vmlinuz")
    }

    /// What belongs at /lib/modules/`release`, modules uncompressed.
    pub(crate) fn modules(&self) -> PathBuf {
        self.directory.join("modules/lib/modules").join(&self.release)
    }

    fn key() -> String {
        cache::key(&[b"debian 1", PACKAGE.as_bytes(), MODULES.join(" ").as_bytes()])
    }
}

/// Takes kernel and modules out of an unpacked package.
fn take(unpacked: &Path, release: &str, part: &Path) -> Result<(), SetupError> {
    let kernel = unpacked.join(format!("boot/vmlinuz-{release}"));
    fs::copy(&kernel, part.join("vmlinuz")).during("copy", &kernel)?;
    let all = ["lib/modules", "usr/lib/modules"].map(|path| unpacked.join(path).join(release));
    let all = all
        .iter()
        .find(|path| path.is_dir())
        .ok_or_else(|| SetupError::NotThere { what: "the kernel's modules", path: unpacked.to_owned() })?;
    let dependencies = depmod(unpacked, all, release)?;
    let subset = part.join("modules/lib/modules").join(release);
    for module in closure(&dependencies, &MODULES) {
        let from = all.join(&module);
        let to = subset.join(module.trim_end_matches(".xz"));
        if let Some(directory) = to.parent() {
            fs::create_dir_all(directory).during("create", directory)?;
        }
        if module.ends_with(".xz") {
            let compressed = to.with_extension("ko.xz");
            fs::copy(&from, &compressed).during("copy", &from)?;
            tool::capture(Command::new("xz").arg("--decompress").arg(&compressed))?;
        } else {
            fs::copy(&from, &to).during("copy", &from)?;
        }
    }
    for list in ["modules.builtin", "modules.builtin.modinfo", "modules.order"] {
        let from = all.join(list);
        if from.exists() {
            fs::copy(&from, subset.join(list)).during("copy", &from)?;
        }
    }
    depmod(&part.join("modules"), &subset, release)?;
    let file = part.join("release");
    fs::write(&file, release).during("write", &file)?;
    announce(&format!("took Linux {release} and its modules"));
    Ok(())
}

/// Writes the modules' indices and gives the one of dependencies.
fn depmod(base: &Path, modules: &Path, release: &str) -> Result<String, SetupError> {
    let program = find_program("depmod").unwrap_or_else(|| "depmod".into());
    // Modules may lie under lib or under usr/lib; depmod knows one of the two.
    let base = if modules.starts_with(base.join("usr")) { base.join("usr") } else { base.to_owned() };
    tool::capture(Command::new(program).arg("--basedir").arg(base).arg(release))?;
    let file = modules.join("modules.dep");
    Ok(fs::read_to_string(&file).during("read", &file)?)
}

/// The files of the `wanted` modules and of those that they depend on, from the text of a modules.dep.
fn closure(dependencies: &str, wanted: &[&str]) -> BTreeSet<String> {
    let name = |path: &str| {
        let file = path.rsplit('/').next().unwrap_or_default();
        file.split('.').next().unwrap_or_default().replace('-', "_")
    };
    let wanted: Vec<String> = wanted.iter().map(|module| module.replace('-', "_")).collect();
    // modules.dep lists the dependencies of dependencies too.
    dependencies
        .lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(module, _)| wanted.contains(&name(module)))
        .flat_map(|(module, needs)| std::iter::once(module).chain(needs.split_whitespace()))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
#[path = "debian_test.rs"]
mod tests;
