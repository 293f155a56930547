//! The root file system of a lab host, and the base of a guest's: busybox with all its applets, and for a
//! host the agent, `vmm`, the guests' kernels and the files that were asked for.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::MemfdFlags;

use super::{HostError, HostSpec};
use crate::cpio::Archive;
use crate::setup::Artefacts;

const DIRECTORIES: [&str; 12] =
    ["bin", "sbin", "boot", "dev", "etc", "lab", "lib", "proc", "root", "run", "sys", "tmp"];

/// Builds a host's initramfs in memory.
pub(super) fn build(
    spec: &HostSpec,
    artefacts: &Artefacts,
    vmm: Option<&Path>,
) -> Result<OwnedFd, HostError> {
    let memory = rustix::fs::memfd_create("initramfs", MemfdFlags::CLOEXEC)
        .map_err(|e| HostError::Local { action: "allocate the host's initramfs", source: e.into() })?;
    let mut root = Root { archive: Archive::new(BufWriter::new(File::from(memory))) };
    root.base(artefacts)?;
    root.copy(Path::new("/proc/self/exe"), "init")?;
    if let Some(vmm) = vmm {
        root.copy(vmm, "bin/vmm")?;
    }
    // What vmm takes for the kernel of its guests: the one that the host seems to run.
    root.copy(&artefacts.guest.vmlinux(), &format!("boot/vmlinuz-{}", artefacts.kernel.release))?;
    root.make("lib/modules", |archive, path| archive.directory(path))?;
    let own = artefacts.stock(spec.kernel).filter(|own| own.release != artefacts.debian.release);
    for stock in [&artefacts.debian].into_iter().chain(own) {
        root.copy(&stock.vmlinuz(), &format!("boot/vmlinuz-{}", stock.release))?;
        root.copy(&stock.modules(), &format!("lib/modules/{}", stock.release))?;
    }
    root.make("out", |archive, path| archive.directory(path))?;
    for path in &spec.add {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).ok_or_else(|| {
            let source = io::Error::new(io::ErrorKind::InvalidInput, "it has no file name");
            HostError::Add { path: path.clone(), source }
        })?;
        root.copy(path, &format!("lab/{name}"))?;
    }
    let writer = root.archive.finish().map_err(written)?;
    let file = writer.into_inner().map_err(|e| written(e.into_error()))?;
    Ok(file.into())
}

/// What a guest's initramfs starts from: busybox with all its applets, and empty directories.
pub(crate) fn guest_base<W: Write>(out: W, artefacts: &Artefacts) -> Result<Archive<W>, HostError> {
    let mut root = Root { archive: Archive::new(out) };
    root.base(artefacts)?;
    Ok(root.archive)
}

struct Root<W> {
    archive: Archive<W>,
}

impl<W: Write> Root<W> {
    fn base(&mut self, artefacts: &Artefacts) -> Result<(), HostError> {
        for directory in DIRECTORIES {
            self.make(directory, |archive, path| archive.directory(path))?;
        }
        // Process 1 gets its standard streams from it, before anything is mounted.
        self.make("dev/console", |archive, path| archive.character(path, 5, 1))?;
        self.make("dev/null", |archive, path| archive.character(path, 1, 3))?;
        let accounts = b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n";
        self.make("etc/passwd", |archive, path| archive.file(path, 0o644, accounts))?;
        let groups = b"root:x:0:\nnogroup:x:65534:\n";
        self.make("etc/group", |archive, path| archive.file(path, 0o644, groups))?;
        self.copy(&artefacts.busybox.program(), "bin/busybox")?;
        for applet in artefacts.busybox.applets.iter().filter(|applet| *applet != "busybox") {
            self.make(&format!("bin/{applet}"), |archive, path| archive.symlink(path, "busybox"))?;
        }
        Ok(())
    }

    /// Adds a file, or a directory with all below it.
    fn copy(&mut self, from: &Path, to: &str) -> Result<(), HostError> {
        let unreadable = |source| HostError::Add { path: from.to_owned(), source };
        if fs::metadata(from).map_err(unreadable)?.is_dir() {
            self.make(to, |archive, path| archive.directory(path))?;
            for entry in fs::read_dir(from).map_err(unreadable)? {
                let entry = entry.map_err(unreadable)?;
                self.copy(&entry.path(), &format!("{to}/{}", entry.file_name().to_string_lossy()))?;
            }
            return Ok(());
        }
        let content = fs::read(from).map_err(unreadable)?;
        self.make(to, |archive, path| archive.file(path, 0o755, &content))
    }

    fn make(
        &mut self,
        path: &str,
        entry: impl FnOnce(&mut Archive<W>, &str) -> io::Result<()>,
    ) -> Result<(), HostError> {
        entry(&mut self.archive, path).map_err(written)
    }
}

fn written(source: io::Error) -> HostError {
    HostError::Local { action: "write the initramfs", source }
}
