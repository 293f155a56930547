//! Stock kernels: Debian's for clouds, with those of their modules that a host or a guest uses.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::SetupError;
use super::apt::{Apt, Package};
use super::cache::{self, Cache};
use super::packages::find_program;
use crate::files::During;
use crate::host::HostKernel;
use crate::tool::{self, announce};

/// A series of kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Series {
    /// Which package holds the image; its name ends in what `uname -r` says under it.
    image: &'static str,
    /// What that package's name starts with, and so that of the modules' package.
    prefixes: [&'static str; 2],
    /// Modules beyond [`MODULES`]: what the others have built in.
    more: &'static [&'static str],
}

impl Series {
    /// The one that every host has at hand.
    pub(super) const USUAL: Series = Series::whole(r"^linux-image-6\.12\.[0-9]+.*-cloud-amd64$");
    /// Without CMA and io_uring's newer ways.
    const OLD: Series = Series {
        more: &["virtio_pci", "virtio_console"],
        ..Series::whole(r"^linux-image-6\.1\.0-[0-9]+-cloud-amd64$")
    };
    /// With CMA. Its packages are split.
    const NEW: Series = Series {
        image: r"^linux-binary-7\.[0-9.]+\+deb[0-9]+-cloud-amd64$",
        prefixes: ["linux-binary-", "linux-modules-"],
        more: &[],
    };

    /// A series whose images come with their modules.
    const fn whole(image: &'static str) -> Series {
        Series { image, prefixes: ["linux-image-", "linux-image-"], more: &[] }
    }

    fn modules(self) -> Vec<&'static str> {
        MODULES.iter().chain(self.more).copied().collect()
    }

    /// The series of a host's kernel; `None` for the lab's own.
    pub(super) fn of(kernel: HostKernel) -> Option<Series> {
        match kernel {
            HostKernel::Lab => None,
            HostKernel::Debian => Some(Series::USUAL),
            HostKernel::Debian61 => Some(Series::OLD),
            HostKernel::Debian7 => Some(Series::NEW),
        }
    }
}

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
    pub(super) fn find(cache: &Cache, series: Series) -> Result<Option<Debian>, SetupError> {
        cache.find("debian", &Self::key(series)).map(Self::load).transpose()
    }

    pub(super) fn ensure(
        cache: &Cache,
        apt: &mut Apt,
        series: Series,
        renew: bool,
    ) -> Result<Debian, SetupError> {
        if !renew && let Some(debian) = Self::find(cache, series)? {
            return Ok(debian);
        }
        let image = apt.newest(series.image)?;
        let directory = cache.place("debian", &Self::key(series), &image.version);
        if !directory.exists() {
            let [image_prefix, modules_prefix] = series.prefixes;
            let release = image.name.trim_start_matches(image_prefix).to_owned();
            let modules = Package { name: format!("{modules_prefix}{release}"), ..image.clone() };
            let work = cache.work("debian")?;
            let unpacked =
                [&image, &modules].map(|package| work.join(format!("{}-{}", package.name, package.version)));
            for (package, directory) in [&image, &modules].into_iter().zip(&unpacked) {
                apt.unpack(package, directory)?;
            }
            cache.stage(&directory, |part| take(&unpacked, &release, &series.modules(), part))?;
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

    fn key(series: Series) -> String {
        cache::key(&[b"debian 1", series.image.as_bytes(), series.modules().join(" ").as_bytes()])
    }
}

/// Takes kernel and modules out of the unpacked packages of the image and of the modules.
fn take(
    [image, unpacked]: &[PathBuf; 2],
    release: &str,
    modules: &[&str],
    part: &Path,
) -> Result<(), SetupError> {
    let kernel = [format!("boot/vmlinuz-{release}"), format!("usr/lib/modules/{release}/vmlinuz")];
    let kernel = kernel.map(|path| image.join(path)).into_iter().find(|path| path.is_file());
    let kernel = kernel.ok_or_else(|| SetupError::NotThere { what: "the kernel", path: image.clone() })?;
    fs::copy(&kernel, part.join("vmlinuz")).during("copy", &kernel)?;
    let all = ["lib/modules", "usr/lib/modules"].map(|path| unpacked.join(path).join(release));
    let all = all
        .iter()
        .find(|path| path.is_dir())
        .ok_or_else(|| SetupError::NotThere { what: "the kernel's modules", path: unpacked.to_owned() })?;
    let dependencies = depmod(unpacked, all, release)?;
    let subset = part.join("modules/lib/modules").join(release);
    for module in closure(&dependencies, modules) {
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
