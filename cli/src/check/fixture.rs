//! A host in a directory, for tests of what is said about it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// A host in a directory.
pub(super) struct Scripted(tempfile::TempDir);

impl Scripted {
    /// With an IOMMU and VFIO, container and iommufd.
    pub(super) fn new() -> Self {
        let host = Self(tempfile::tempdir().unwrap());
        for directory in
            ["sys/bus/pci/drivers/vfio-pci", "sys/kernel/iommu_groups", "dev/vfio/devices", "proc"]
        {
            fs::create_dir_all(host.path(directory)).unwrap();
        }
        host.file("dev/vfio/vfio", "").file("dev/iommu", "")
    }

    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    pub(super) fn root(&self) -> &Path {
        self.0.path()
    }

    pub(super) fn file(self, path: &str, text: &str) -> Self {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        fs::write(self.path(path), text).unwrap();
        self
    }

    pub(super) fn without(self, path: &str) -> Self {
        let path = self.path(path);
        if path.is_dir() {
            fs::remove_dir_all(path).unwrap()
        } else {
            fs::remove_file(path).unwrap()
        }
        self
    }

    /// A network card with this driver in this group. Bound to VFIO it has both nodes.
    pub(super) fn device(mut self, address: &str, driver: Option<&str>, group: Option<u32>) -> Self {
        let device = format!("sys/bus/pci/devices/{address}");
        let none = "0x0000000000000000 0x0000000000000000 0x0000000000000000\n".repeat(13);
        for (name, text) in [
            ("vendor", "0x8086\n"),
            ("device", "0x10d3\n"),
            ("class", "0x020000\n"),
            ("resource", none.as_str()),
        ] {
            self = self.file(&format!("{device}/{name}"), text);
        }
        if let Some(driver) = driver {
            symlink(format!("../../drivers/{driver}"), self.path(&format!("{device}/driver"))).unwrap();
        }
        if let Some(group) = group {
            let members = self.path(&format!("sys/kernel/iommu_groups/{group}/devices"));
            fs::create_dir_all(&members).unwrap();
            symlink(self.path(&device), members.join(address)).unwrap();
            symlink(members.parent().unwrap(), self.path(&format!("{device}/iommu_group"))).unwrap();
            if driver == Some("vfio-pci") {
                fs::create_dir_all(self.path(&format!("{device}/vfio-dev/vfio{group}"))).unwrap();
                self = self
                    .file(&format!("dev/vfio/{group}"), "")
                    .file(&format!("dev/vfio/devices/vfio{group}"), "");
            }
        }
        self
    }

    /// Replaces a node by a file that nobody may write, root included.
    pub(super) fn forbid(self, path: &str) -> Self {
        fs::remove_file(self.path(path)).unwrap();
        symlink("/proc/sys/kernel/ostype", self.path(path)).unwrap();
        self
    }
}
