use std::os::unix::fs::symlink;

use miette::Diagnostic;

use super::*;
use crate::sysfs::tests::Fixture;

const NVME: u32 = 0x01_0802;
const NETWORK: u32 = 0x02_0000;
const BRIDGE: u32 = 0x06_0400;

/// Every error as `message`, then `help: ` and the remedy, with the fixture's root left out.
fn check(fixture: &Fixture, addresses: &[&str]) -> Vec<String> {
    let addresses: Vec<PciAddress> = addresses.iter().map(|address| address.parse().unwrap()).collect();
    let text = |error: PreflightError| {
        let help = error.help().map(|help| format!("\nhelp: {help}")).unwrap_or_default();
        format!("{error}{help}").replace(&format!("{}", fixture.path("").display()), "/")
    };
    match check_on(&fixture.host(), &addresses) {
        Ok(found) => {
            assert_eq!(found.len(), addresses.len());
            Vec::new()
        }
        Err(errors) => errors.into_iter().map(text).collect(),
    }
}

#[test]
fn nothing_is_wrong_with_a_device_ready_for_use() {
    let fixture = Fixture::new();
    fixture
        .device("0000:01:00.0", NVME, Some("vfio-pci"), Some(12))
        .device("0000:01:00.1", NETWORK, Some("vfio-pci"), Some(12))
        .device("0000:01:00.2", NETWORK, None, Some(12))
        .device("0000:00:01.0", BRIDGE, Some("pcieport"), Some(12));
    assert_eq!(check(&fixture, &["01:00.0"]), Vec::<String>::new());
    assert_eq!(check(&fixture, &["01:00.0", "01:00.1"]), Vec::<String>::new());
    assert_eq!(check(&fixture, &[]), Vec::<String>::new());
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let fixture = Fixture::new();
    fixture
        .device("0000:01:00.0", NVME, Some("nvme"), Some(12))
        .device("0000:01:00.1", NETWORK, Some("e1000e"), Some(12))
        .device("0000:02:00.0", NVME, None, Some(13))
        .device("0000:03:00.0", BRIDGE, Some("pcieport"), Some(14));
    let errors = check(&fixture, &["01:00.0", "02:00.0", "01:00.0", "04:00.0", "03:00.0"]);
    assert_eq!(
        errors,
        [
            "0000:01:00.0 is given twice\nhelp: name each device once",
            "there is no PCI device 0000:04:00.0\nhelp: the devices of this host are listed in /sys/bus/pci/devices",
            "0000:01:00.0 is bound to the host driver nvme\n\
             help: give it to VFIO (the host loses it until it is given back):\n  \
             echo vfio-pci > /sys/bus/pci/devices/0000:01:00.0/driver_override\n  \
             echo 0000:01:00.0 > /sys/bus/pci/devices/0000:01:00.0/driver/unbind\n  \
             echo 0000:01:00.0 > /sys/bus/pci/drivers_probe",
            "0000:01:00.0 shares IOMMU group 12 with devices that the host uses: 0000:01:00.1 (e1000e)\n\
             help: the IOMMU cannot tell them apart: bind them to vfio-pci too (they need not be passed through), \
             or use another slot",
            "0000:02:00.0 is bound to no driver, and has to be bound to vfio-pci\n\
             help: bind it:\n  \
             echo vfio-pci > /sys/bus/pci/devices/0000:02:00.0/driver_override\n  \
             echo 0000:02:00.0 > /sys/bus/pci/drivers_probe",
            "0000:03:00.0 is a PCI bridge, which cannot be passed through\nhelp: name the devices behind it",
        ]
    );
}

#[test]
fn a_missing_driver_is_to_be_loaded_first() {
    let fixture = Fixture::new();
    fixture.device("0000:01:00.0", NVME, None, Some(12));
    fs::remove_dir(fixture.path("sys/bus/pci/drivers/vfio-pci")).unwrap();
    fs::remove_file(fixture.path("dev/vfio/vfio")).unwrap();
    assert_eq!(
        check(&fixture, &["01:00.0"]),
        [
            "0000:01:00.0 is bound to no driver, and has to be bound to vfio-pci\n\
             help: bind it:\n  \
             modprobe vfio-pci\n  \
             echo vfio-pci > /sys/bus/pci/devices/0000:01:00.0/driver_override\n  \
             echo 0000:01:00.0 > /sys/bus/pci/drivers_probe",
            "/dev/vfio/vfio does not exist: VFIO is not loaded\nhelp: modprobe vfio-pci",
        ]
    );
}

#[test]
fn two_devices_of_a_group_that_are_both_asked_for_are_not_in_each_others_way() {
    let fixture = Fixture::new();
    fixture.device("0000:01:00.0", NETWORK, Some("vfio-pci"), Some(12)).device(
        "0000:01:00.1",
        NETWORK,
        Some("e1000e"),
        Some(12),
    );
    let errors = check(&fixture, &["01:00.0", "01:00.1"]);
    assert_eq!(errors.len(), 1);
    assert!(errors[0].starts_with("0000:01:00.1 is bound to the host driver e1000e"));
}

#[test]
fn the_iommu_is_off_or_does_not_see_the_device() {
    let fixture = Fixture::new();
    fixture.device("0000:01:00.0", NVME, Some("vfio-pci"), None);
    let errors = check(&fixture, &["01:00.0"]);
    assert_eq!(
        errors,
        ["0000:01:00.0 has no IOMMU group: the IOMMU is off\n\
          help: turn VT-d or AMD-Vi on in the firmware, and boot the host with intel_iommu=on (Intel) \
          or without amd_iommu=off (AMD)"]
    );
    fixture.device("0000:02:00.0", NVME, Some("nvme"), Some(1));
    let errors = check(&fixture, &["01:00.0"]);
    assert!(errors[0].starts_with("0000:01:00.0 has no IOMMU group: no IOMMU is in charge of it\n"));
}

#[test]
fn a_group_without_node_is_named() {
    let fixture = Fixture::new();
    fixture.device("0000:01:00.0", NVME, Some("vfio-pci"), Some(12));
    fs::remove_file(fixture.path("dev/vfio/12")).unwrap();
    assert_eq!(
        check(&fixture, &["01:00.0"]),
        ["/dev/vfio/12 does not exist, though 0000:01:00.0 is bound to VFIO\n\
          help: in a container, pass the node in; else check that udev or devtmpfs fills /dev/vfio"]
    );
}

#[test]
fn who_is_in_the_way_of_a_node_is_named() {
    let fixture = Fixture::new();
    let path = fixture.path("dev/vfio/12");
    fixture.file("dev/vfio/12", "");
    let meta = fs::metadata(&path).unwrap();
    let owner = format!("uid {}, gid {} (mode {:04o})", meta.uid(), meta.gid(), meta.mode() & 0o7777);
    let explained =
        |errno| explain(&fixture.host(), path.clone(), io::Error::from_raw_os_error(errno)).to_string();

    let node = path.display();
    assert_eq!(explained(libc::EACCES), format!("no permission to open {node}, which belongs to {owner}"));
    assert_eq!(explained(libc::ENODEV), format!("cannot open {node}"));
    assert_eq!(explained(libc::EBUSY), format!("{node} is in use by another process"));
    fixture.file("proc/4711/comm", "qemu-system-x86\n");
    fs::create_dir(fixture.path("proc/4711/fd")).unwrap();
    symlink(&path, fixture.path("proc/4711/fd/17")).unwrap();
    assert_eq!(explained(libc::EBUSY), format!("{node} is in use by qemu-system-x86 (pid 4711)"));
}
