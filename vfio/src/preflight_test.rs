use std::fs;

use miette::Diagnostic;

use super::*;
use crate::request::Company;
use crate::sysfs::tests::Fixture;

const NVME: u32 = 0x01_0802;
const NETWORK: u32 = 0x02_0000;
const BRIDGE: u32 = 0x06_0400;

fn request(addresses: &[&str]) -> Request {
    let addresses: Vec<PciAddress> = addresses.iter().map(|address| address.parse().unwrap()).collect();
    Request::at(&addresses)
}

fn check(fixture: &Fixture, addresses: &[&str]) -> Vec<String> {
    errors(fixture, request(addresses))
}

fn insisting(fixture: &Fixture, address: &str) -> Vec<String> {
    let mut request = request(&[address]);
    request.devices[0].backend = Some(Backend::Iommufd);
    errors(fixture, request)
}

fn chosen(fixture: &Fixture, addresses: &[&str], wish: Option<Backend>) -> (Backend, bool) {
    let mut request = request(addresses);
    request.devices[0].backend = wish;
    let prepared = check_on(&fixture.host(), request).unwrap();
    (prepared.backend, prepared.has_alternative)
}

/// Every error as `message`, then `help: ` and the remedy, with the fixture's root left out.
fn errors(fixture: &Fixture, request: Request) -> Vec<String> {
    let count = request.devices.len();
    let text = |error: PreflightError| {
        let help = error.help().map(|help| format!("\nhelp: {help}")).unwrap_or_default();
        format!("{error}{help}").replace(&format!("{}", fixture.path("").display()), "/")
    };
    match check_on(&fixture.host(), request) {
        Ok(found) => {
            assert_eq!(found.devices().len(), count);
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
             help: give it to VFIO; the host loses it until `vmm unbind 0000:01:00.0`:\n  vmm bind 0000:01:00.0",
            "0000:01:00.0 shares IOMMU group 12 with devices that the host uses: 0000:01:00.1 (e1000e)\n\
             help: the IOMMU cannot tell them apart: bind them too (they need not be passed through), \
             or use another slot:\n  vmm bind --group 0000:01:00.0",
            "0000:02:00.0 is bound to no driver, and has to be bound to vfio-pci\n\
             help: bind it:\n  vmm bind 0000:02:00.0",
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
             help: bind it:\n  modprobe vfio-pci\n  vmm bind 0000:01:00.0",
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
fn groups_are_confined_wholly_and_each_by_itself() {
    let fixture = Fixture::new();
    fixture
        .device("0000:01:00.0", NVME, Some("vfio-pci"), Some(12))
        .device("0000:01:00.1", NETWORK, Some("vfio-pci"), Some(12))
        .device("0000:02:00.0", NVME, Some("vfio-pci"), Some(13))
        .device("0000:03:00.0", NVME, Some("vfio-pci"), Some(14));
    let confining = |confined: &[usize]| {
        let mut request = request(&["01:00.0", "02:00.0", "01:00.1", "03:00.0"]);
        confined.iter().for_each(|index| request.devices[*index].confined = true);
        request
    };
    let half = errors(&fixture, confining(&[0, 1]));
    assert_eq!(half.len(), 1, "{half:?}");
    assert!(
        half[0].starts_with(
            "0000:01:00.0 is to be confined, 0000:01:00.1 is not, and both are in IOMMU group 12"
        )
    );
    let list = |prepared: &Prepared| -> Vec<String> {
        prepared.devices().map(|device| device.address.to_string()).collect()
    };
    let (shared, groups) = check_on(&fixture.host(), confining(&[0, 2, 3])).unwrap().split();
    assert_eq!(list(&shared), ["0000:02:00.0"]);
    let groups: Vec<_> = groups.iter().map(list).collect();
    assert_eq!(groups, [vec!["0000:01:00.0", "0000:01:00.1"], vec!["0000:03:00.0"]]);
}

#[test]
fn a_device_that_is_gone_is_named() {
    let fixture = Fixture::new();
    fixture.device("0000:01:00.0", NVME, Some("vfio-pci"), Some(12));
    fixture.file("sys/bus/pci/devices/0000:01:00.0/config", "\u{1}".repeat(64).as_str());
    assert_eq!(check(&fixture, &["01:00.0"]), Vec::<String>::new());
    // A virtual function has no IDs of its own, but a class.
    let path = fixture.path("sys/bus/pci/devices/0000:01:00.0/config");
    fs::write(&path, [[0xff; 8], [1; 8]].concat()).unwrap();
    assert_eq!(check(&fixture, &["01:00.0"]), Vec::<String>::new());
    fs::write(&path, [0xff; 64]).unwrap();
    assert_eq!(
        check(&fixture, &["01:00.0"]),
        ["0000:01:00.0 does not answer\n\
          help: it is powered off, has failed or was pulled out: see `dmesg`, and power the host off and on"]
    );
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
fn iommufd_is_used_where_all_devices_have_it() {
    let fixture = Fixture::new();
    fixture
        .device("0000:01:00.0", NVME, Some("vfio-pci"), Some(12))
        .device("0000:02:00.0", NVME, Some("vfio-pci"), Some(13))
        .cdev("0000:01:00.0", "vfio0");
    assert_eq!(chosen(&fixture, &["01:00.0"], None), (Backend::Iommufd, true));
    assert_eq!(chosen(&fixture, &["01:00.0"], Some(Backend::Container)), (Backend::Container, false));
    assert_eq!(chosen(&fixture, &["01:00.0", "02:00.0"], None), (Backend::Container, false));
    fixture.cdev("0000:02:00.0", "vfio1");
    assert_eq!(chosen(&fixture, &["01:00.0", "02:00.0"], None), (Backend::Iommufd, true));
    // Nothing but iommufd is there: no container can stand in.
    fs::remove_file(fixture.path("dev/vfio/vfio")).unwrap();
    assert_eq!(chosen(&fixture, &["01:00.0"], None), (Backend::Iommufd, false));
    fixture.file("dev/vfio/vfio", "");
    fs::remove_file(fixture.path("dev/iommu")).unwrap();
    assert_eq!(chosen(&fixture, &["01:00.0"], None), (Backend::Container, false));
}

#[test]
fn iommufd_that_is_insisted_on_has_to_be_there() {
    let fixture = Fixture::new();
    fixture.device("0000:01:00.0", NVME, Some("vfio-pci"), Some(12));
    assert_eq!(
        insisting(&fixture, "01:00.0"),
        [
            "0000:01:00.0 has no node in /dev/vfio/devices: this kernel's VFIO reaches it through its group only\n\
             help: leave `backend=iommufd` out; or use a kernel with VFIO_DEVICE_CDEV (Linux 6.6 and later)",
            "/dev/iommu does not exist: the kernel has no iommufd\n\
             help: modprobe iommufd (Linux 6.6 and later), or leave `backend=iommufd` out",
        ]
    );
    fixture.cdev("0000:01:00.0", "vfio0");
    assert_eq!(insisting(&fixture, "01:00.0"), Vec::<String>::new());
    fs::remove_file(fixture.path("dev/vfio/devices/vfio0")).unwrap();
    assert_eq!(
        insisting(&fixture, "01:00.0"),
        ["/dev/vfio/devices/vfio0 does not exist, though 0000:01:00.0 is bound to VFIO\n\
          help: in a container, pass the node in; else check that udev or devtmpfs fills /dev/vfio"]
    );
}

#[test]
fn what_was_handed_over_needs_no_node() {
    let fixture = Fixture::new();
    fixture.device("0000:01:00.0", NVME, Some("vfio-pci"), Some(12));
    fs::remove_file(fixture.path("dev/vfio/12")).unwrap();
    let file = || Some(Arc::new(tempfile::tempfile().unwrap()));
    let mut request = Request::at(&["01:00.0".parse().unwrap()]);
    request.devices[0].opened = file();
    let errors = check_on(&fixture.host(), request.clone()).unwrap_err();
    assert!(matches!(errors[..], [PreflightError::NoIommufd(_)]), "{errors:?}");
    let prepared = check_on(&fixture.host(), Request { iommufd: file(), ..request }).unwrap();
    assert_eq!((prepared.backend, prepared.has_alternative), (Backend::Iommufd, false));
}

#[test]
fn contradicting_wishes_are_said_with_all_the_rest() {
    let fixture = Fixture::new();
    fixture.device("0000:01:00.0", NVME, None, Some(12));
    let mut request = Request::at(&["01:00.0".parse().unwrap(), "02:00.0".parse().unwrap()]);
    request.devices[0].backend = Some(Backend::Container);
    request.devices[1].backend = Some(Backend::Iommufd);
    let errors = check_on(&fixture.host(), request).unwrap_err();
    let [PreflightError::Request(_), PreflightError::Discover(_), PreflightError::NoDriver { .. }] =
        errors[..]
    else {
        panic!("{errors:?}")
    };
}

#[test]
fn who_joins_others_shares_their_interface_and_their_groups() {
    let fixture = Fixture::new();
    fixture
        .device("0000:01:00.0", NVME, Some("vfio-pci"), Some(12))
        .device("0000:02:00.0", NVME, Some("vfio-pci"), Some(13))
        .cdev("0000:01:00.0", "vfio0")
        .cdev("0000:02:00.0", "vfio1");
    let joining = |backend, groups: &[u32]| {
        let mut request = request(&["01:00.0"]);
        request.join(Company { backend, groups: groups.iter().copied().collect() });
        request
    };
    for backend in [Backend::Iommufd, Backend::Container] {
        let prepared = check_on(&fixture.host(), joining(backend, &[13])).unwrap();
        assert_eq!((prepared.backend, prepared.has_alternative), (backend, false));
    }
    let mut insisting = joining(Backend::Container, &[13]);
    insisting.devices[0].backend = Some(Backend::Iommufd);
    let [PreflightError::Request(error)] = &check_on(&fixture.host(), insisting).unwrap_err()[..] else {
        panic!()
    };
    assert!(
        error
            .to_string()
            .starts_with("the rest of the machine asks for a container, 0000:01:00.0 for iommufd: ")
    );
    // A group can be open once: one that the machine has open is not tried.
    fs::remove_file(fixture.path("dev/vfio/12")).unwrap();
    assert!(check_on(&fixture.host(), joining(Backend::Container, &[12])).is_ok());
    assert!(check_on(&fixture.host(), joining(Backend::Container, &[13])).is_err());
}
