use std::os::unix::fs::symlink;

use super::*;

/// A host in a directory.
pub(crate) struct Fixture {
    root: tempfile::TempDir,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let fixture = Self { root: tempfile::tempdir().unwrap() };
        for dir in ["sys/bus/pci/devices", "sys/bus/pci/drivers/vfio-pci", "dev/vfio", "proc"] {
            fs::create_dir_all(fixture.path(dir)).unwrap();
        }
        fixture.file("dev/vfio/vfio", "");
        fixture
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    pub(crate) fn file(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn host(&self) -> Host {
        Host::at(self.root.path())
    }

    /// Gives a device a node of its own, and the host an iommufd.
    pub(crate) fn cdev(&self, address: &str, name: &str) -> &Self {
        fs::create_dir_all(self.path(&format!("sys/bus/pci/devices/{address}/vfio-dev/{name}"))).unwrap();
        self.file(&format!("dev/vfio/devices/{name}"), "");
        self.file("dev/iommu", "");
        self
    }

    /// Adds a device, and its group's node if a VFIO driver holds it.
    pub(crate) fn device(
        &self,
        address: &str,
        class: u32,
        driver: Option<&str>,
        group: Option<u32>,
    ) -> &Self {
        let device = format!("sys/bus/pci/devices/{address}");
        self.file(&format!("{device}/vendor"), "0x144d\n");
        self.file(&format!("{device}/device"), "0xa808\n");
        self.file(&format!("{device}/class"), &format!("{class:#08x}\n"));
        self.file(&format!("{device}/numa_node"), "-1\n");
        self.file(&format!("{device}/reset_method"), "flr bus\n");
        let none = "0x0000000000000000 0x0000000000000000 0x0000000000000000\n".repeat(12);
        let bar = "0x00000000fe100000 0x00000000fe103fff 0x0000000000140204\n";
        self.file(&format!("{device}/resource"), &format!("{bar}{none}"));
        if let Some(driver) = driver {
            symlink(format!("../../../bus/pci/drivers/{driver}"), self.path(&format!("{device}/driver")))
                .unwrap();
        }
        if let Some(group) = group {
            let members = format!("sys/kernel/iommu_groups/{group}/devices");
            fs::create_dir_all(self.path(&members)).unwrap();
            symlink(format!("../../{address}"), self.path(&format!("{members}/{address}"))).unwrap();
            symlink(
                format!("../../../kernel/iommu_groups/{group}"),
                self.path(&format!("{device}/iommu_group")),
            )
            .unwrap();
            if driver.is_some_and(is_vfio_driver) {
                self.file(&format!("dev/vfio/{group}"), "");
            }
        }
        self
    }
}

fn address(text: &str) -> PciAddress {
    text.parse().unwrap()
}

#[test]
fn reads_what_sysfs_says() {
    let fixture = Fixture::new();
    fixture.device("0000:01:00.0", 0x01_0802, Some("vfio-pci"), Some(12));
    fixture.device("0000:00:01.0", 0x06_0400, Some("pcieport"), Some(12));
    fixture.device("0000:01:00.1", 0x04_0300, None, Some(12));
    let device = fixture.host().find(address("01:00.0")).unwrap();
    let member = |text, class, driver: Option<&str>| Member {
        address: address(text),
        driver: driver.map(str::to_owned),
        class,
    };
    assert_eq!(
        device,
        HostDevice {
            address: address("01:00.0"),
            vendor: 0x144d,
            device: 0xa808,
            class: 0x01_0802,
            driver: Some("vfio-pci".into()),
            group: Some(Group {
                id: 12,
                members: vec![
                    member("00:01.0", 0x06_0400, Some("pcieport")),
                    member("01:00.0", 0x01_0802, Some("vfio-pci")),
                    member("01:00.1", 0x04_0300, None),
                ],
            }),
            cdev: None,
            numa_node: None,
            reset_methods: vec!["flr".into(), "bus".into()],
            bar_sizes: [0x4000, 0, 0, 0, 0, 0],
        }
    );
    assert!(device.is_bound_to_vfio() && !device.is_bridge());
    assert!(device.group.unwrap().members.iter().all(|member| !member.is_obstacle()));
}

#[test]
fn a_device_may_have_a_node_of_its_own() {
    let fixture = Fixture::new();
    fixture.device("0000:01:00.0", 0x01_0802, Some("vfio-pci"), Some(12)).cdev("0000:01:00.0", "vfio3");
    let device = fixture.host().find(address("01:00.0")).unwrap();
    assert_eq!(device.cdev.as_deref(), Some("vfio3"));
}

#[test]
fn a_host_without_iommu_has_no_groups() {
    let fixture = Fixture::new();
    fixture.device("0000:01:00.0", 0x01_0802, None, None);
    let device = fixture.host().find(address("01:00.0")).unwrap();
    assert_eq!((device.group, device.driver), (None, None));
    assert!(!fixture.host().has_iommu());
}

#[test]
fn names_the_file_that_makes_no_sense() {
    let fixture = Fixture::new();
    fixture.device("0000:01:00.0", 0x01_0802, None, None);
    fixture.file("sys/bus/pci/devices/0000:01:00.0/vendor", "8086\n");
    let error = fixture.host().find(address("01:00.0")).unwrap_err().to_string();
    assert!(
        error.ends_with("0000:01:00.0/vendor holds `8086`, which is not what the kernel writes there"),
        "{error}"
    );
    fs::remove_file(fixture.path("sys/bus/pci/devices/0000:01:00.0/vendor")).unwrap();
    let error = fixture.host().find(address("01:00.0")).unwrap_err();
    assert!(matches!(error, DiscoverError::Read { .. }));
    let error = fixture.host().find(address("02:00.0")).unwrap_err();
    assert_eq!(error.to_string(), "there is no PCI device 0000:02:00.0");
}

#[test]
fn variant_drivers_count_as_vfio() {
    for driver in ["vfio-pci", "mlx5_vfio_pci", "nvgrace_gpu_vfio_pci"] {
        assert!(is_vfio_driver(driver));
    }
    assert!(!is_vfio_driver("nvme") && !is_vfio_driver("pci-stub"));
}
