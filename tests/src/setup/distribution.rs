//! A disk as a stock cloud image of Debian's has it: a GPT, and on its first partition an ext4 root with systemd. Beside it are
//! the kernel and the initramfs that the same packages bring. Its root has no password: it is for guests of the lab alone.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::SetupError;
use super::cache::{self, Cache};
use super::packages;
use crate::files::During;
use crate::tool;

/// The release, whatever the system's.
const RELEASE: &str = "bookworm";
/// What is in it beyond the packages that are essential.
const PACKAGES: &str =
    "systemd-sysv,udev,login,util-linux,e2fsprogs,fio,initramfs-tools,linux-image-cloud-amd64";
/// What a package brings and a test image does not need.
const LEFT_OUT: [&str; 3] = ["/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/man/*"];
const SIZE_MIB: u64 = 512;
/// Where the partition begins, as partitioning tools have it; as much is left at the end, for the second GPT.
const START_MIB: u64 = 1;

/// From the root that mmdebstrap has unpacked at $1 to the artefact at $2.
const TAKE: &str = "set -e
    cp \"$1\"/boot/vmlinuz-* \"$2/vmlinuz\"
    cp \"$1\"/boot/initrd.img-* \"$2/initrd\"
    rm -rf \"$1\"/boot/* \"$1\"/var/cache/apt/* \"$1\"/var/lib/apt/lists/*
    rm -f \"$1\"/etc/systemd/system/timers.target.wants/*
    sed -i 's/^root:[^:]*:/root::/' \"$1/etc/shadow\"
    echo '/dev/vda1 / ext4 defaults 0 1' > \"$1/etc/fstab\"
    echo stock > \"$1/etc/hostname\"";

/// The disk and what boots it.
#[derive(Debug, Clone)]
pub(crate) struct Distribution {
    directory: PathBuf,
}

impl Distribution {
    pub(super) fn find(cache: &Cache) -> Option<Distribution> {
        cache.find("distribution", &Self::key()).map(|directory| Distribution { directory })
    }

    pub(super) fn ensure(cache: &Cache) -> Result<Distribution, SetupError> {
        if let Some(distribution) = Self::find(cache) {
            return Ok(distribution);
        }
        let work = cache.work("distribution")?;
        let root = work.join("root");
        // What an interrupted setup has left.
        if root.exists() {
            fs::remove_dir_all(&root).during("empty", &root)?;
        }
        tool::with_progress("installing a Debian into a disk image", &mut install(&root), &work.join("log"))?;
        let status = root.join("var/lib/dpkg/status");
        let status = fs::read(&status).during("read", &status)?;
        // The versions of all packages are the artefact's.
        let directory = cache.place("distribution", &Self::key(), &cache::key(&[&status]));
        if !directory.exists() {
            cache.stage(&directory, |part| take(&root, part))?;
        }
        Ok(Distribution { directory })
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The disk, raw.
    pub(crate) fn image(&self) -> PathBuf {
        self.directory.join("disk.img")
    }

    /// Its kernel, a bzImage.
    pub(crate) fn vmlinuz(&self) -> PathBuf {
        self.directory.join("vmlinuz")
    }

    /// The initramfs that its packages have made.
    pub(crate) fn initrd(&self) -> PathBuf {
        self.directory.join("initrd")
    }

    fn key() -> String {
        let inputs = [RELEASE, PACKAGES, &LEFT_OUT.join(" "), TAKE].join("\n");
        cache::key(&[b"distribution 1", inputs.as_bytes(), &SIZE_MIB.to_le_bytes(), &START_MIB.to_le_bytes()])
    }
}

/// mmdebstrap, which installs into a directory.
fn install(root: &Path) -> Command {
    let mut command = Command::new("mmdebstrap");
    command.args(["--variant=minbase", "--format=directory", "--aptopt=APT::Install-Recommends \"false\""]);
    command.args(LEFT_OUT.map(|path| format!("--dpkgopt=path-exclude={path}")));
    command.arg(format!("--include={PACKAGES}")).arg(RELEASE).arg(root);
    command
}

/// Makes the image, and takes the kernel and the initramfs out of the root.
fn take(root: &Path, part: &Path) -> Result<(), SetupError> {
    tool::capture(Command::new("sh").args(["-c", TAKE, "take"]).args([root, part]))?;
    let image = part.join("disk.img");
    let file = File::create(&image).during("create", &image)?;
    file.set_len(SIZE_MIB << 20).during("size", &image)?;
    let program = |name: &str| Command::new(packages::find_program(name).unwrap_or_else(|| name.into()));
    let table = format!("printf 'label: gpt\\n{}\\n' | \"$0\" --quiet \"$1\"", partition());
    let sfdisk = packages::find_program("sfdisk").unwrap_or_else(|| "sfdisk".into());
    tool::capture(Command::new("sh").args(["-c", &table]).arg(sfdisk).arg(&image))?;
    let mut ext4 = program("mkfs.ext4");
    ext4.args(["-q", "-F", "-L", "root", "-E", &format!("offset={}", START_MIB << 20), "-d"]).arg(root);
    tool::capture(ext4.arg(&image).arg(format!("{}k", (SIZE_MIB - 2 * START_MIB) << 10)))?;
    Ok(())
}

/// The one partition, as sfdisk reads it: sectors of 512 bytes.
fn partition() -> String {
    let sectors = |mib: u64| mib << 11;
    format!("start={}, size={}, type=L, name=root", sectors(START_MIB), sectors(SIZE_MIB - 2 * START_MIB))
}

#[cfg(test)]
#[path = "distribution_test.rs"]
mod tests;
