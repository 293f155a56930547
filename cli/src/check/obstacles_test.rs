//! Every obstacle that an operator may meet, as it is printed: `obstacles.txt`.

use std::fs;
use std::os::unix::fs::symlink;

use memory::layout::AddressLimits;
use memory::pin::{self, AdmitError, Chunk, DmaMapper, MapError};
use memory::{GuestRam, Layout};
use miette::Diagnostic;
use vfio::{Backend, Host, Request};

use crate::report;

const GIB: u64 = 1 << 30;

/// A host in a directory.
struct Scripted(tempfile::TempDir);

impl Scripted {
    /// With an IOMMU and VFIO, container and iommufd.
    fn new() -> Self {
        let host = Self(tempfile::tempdir().unwrap());
        for directory in
            ["sys/bus/pci/drivers/vfio-pci", "sys/kernel/iommu_groups", "dev/vfio/devices", "proc"]
        {
            fs::create_dir_all(host.path(directory)).unwrap();
        }
        host.file("dev/vfio/vfio", "").file("dev/iommu", "")
    }

    fn path(&self, path: &str) -> std::path::PathBuf {
        self.0.path().join(path)
    }

    fn file(self, path: &str, text: &str) -> Self {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        fs::write(self.path(path), text).unwrap();
        self
    }

    fn without(self, path: &str) -> Self {
        let path = self.path(path);
        if path.is_dir() {
            fs::remove_dir_all(path).unwrap()
        } else {
            fs::remove_file(path).unwrap()
        }
        self
    }

    /// A network card with this driver in this group. Bound to VFIO it has both nodes.
    fn device(mut self, address: &str, driver: Option<&str>, group: Option<u32>) -> Self {
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

    /// What is in the way of this device, as it is printed.
    fn obstacles(&self, backend: Option<Backend>) -> String {
        let mut request = Request::at(&["0000:01:00.0".parse().unwrap()]);
        request.devices.iter_mut().for_each(|device| device.backend = backend);
        let errors = vfio::preflight::check_on(&Host::at(self.0.path()), request).unwrap_err();
        let texts = errors.iter().map(|error| report::text("problem", error));
        texts.collect::<String>().replace(&self.0.path().display().to_string(), "")
    }

    /// Replaces a node by a file that nobody may write, root included.
    fn forbid(self, path: &str) -> Self {
        fs::remove_file(self.path(path)).unwrap();
        symlink("/proc/sys/kernel/ostype", self.path(path)).unwrap();
        self
    }
}

/// An address space that takes so many maps.
struct Room(u64);

impl DmaMapper for Room {
    fn map(&self, _: &Chunk, _: Option<std::os::fd::BorrowedFd<'_>>) -> Result<(), MapError> {
        unreachable!()
    }

    fn unmap(&self, _: &Chunk) -> Result<(), MapError> {
        unreachable!()
    }

    fn room(&self) -> Option<u64> {
        Some(self.0)
    }
}

fn problem(error: &dyn Diagnostic) -> String {
    report::text("problem", error)
}

#[test]
fn each_obstacle_has_its_message_and_its_remedy() {
    const BDF: &str = "0000:01:00.0";
    let host = Scripted::new;
    let bound = || host().device(BDF, Some("vfio-pci"), Some(12));
    let narrow =
        AddressLimits { phys_bits: 46, iova: Some(vec![0..=0xfedf_ffff, 0xfef0_0000..=0x7f_ffff_ffff]) };
    let reserved =
        AddressLimits { phys_bits: 46, iova: Some(vec![0..=0x7fff, 0x10_0000..=0xffff_ffff_ffff]) };
    let small = AddressLimits { phys_bits: 46, iova: Some(vec![0..=0xffff_ffff_ffff]) };
    let ram = GuestRam::new(&Layout::new(6 * GIB, &small).unwrap()).unwrap();
    let cases = [
        ("a device of the host", host().device(BDF, Some("e1000e"), Some(12)).obstacles(None)),
        ("a device without a driver", host().device(BDF, None, Some(12)).obstacles(None)),
        (
            "the module is missing",
            host()
                .device(BDF, None, Some(12))
                .without("sys/bus/pci/drivers/vfio-pci")
                .without("dev")
                .obstacles(None),
        ),
        (
            "others of its group",
            bound()
                .device("0000:01:00.1", Some("snd_hda_intel"), Some(12))
                .device("0000:01:00.2", None, Some(12))
                .obstacles(None),
        ),
        ("no IOMMU", host().device(BDF, Some("vfio-pci"), None).obstacles(None)),
        (
            "not behind the IOMMU",
            host().device(BDF, None, None).device("0000:02:00.0", None, Some(1)).obstacles(None),
        ),
        ("no such device", host().obstacles(None)),
        ("it is gone", {
            let host = bound();
            fs::write(host.path(&format!("sys/bus/pci/devices/{BDF}/config")), [0xff; 64]).unwrap();
            host.obstacles(None)
        }),
        (
            "its cdev is another's",
            bound().forbid("dev/vfio/devices/vfio12").obstacles(Some(Backend::Iommufd)),
        ),
        ("its group is another's", bound().forbid("dev/vfio/12").obstacles(Some(Backend::Container))),
        ("no iommufd", bound().without("dev/iommu").obstacles(Some(Backend::Iommufd))),
        (
            "no cdev",
            bound().without(&format!("sys/bus/pci/devices/{BDF}/vfio-dev")).obstacles(Some(Backend::Iommufd)),
        ),
        ("no container", bound().without("dev/vfio/vfio").obstacles(Some(Backend::Container))),
        ("no node", bound().without("dev/vfio/12").obstacles(Some(Backend::Container))),
        ("memlock", problem(&AdmitError::MemlockTooLow { need: 4 * GIB, have: 8 << 20 })),
        ("a narrow aperture", problem(&Layout::new(600 * GIB, &narrow).unwrap_err())),
        ("an aperture with a hole", problem(&Layout::new(GIB, &reserved).unwrap_err())),
        ("dma_entry_limit is lowered", problem(&pin::check_room(&ram, &Room(3)).unwrap_err())),
    ];
    let text: String = cases.iter().map(|(name, text)| format!("== {name}\n{text}\n")).collect();
    assert!(cases.iter().all(|(_, text)| text.contains("help: ")));
    assert_eq!(text, include_str!("obstacles.txt"));
    pin::check_room(&ram, &Room(6)).unwrap();
}
