use super::*;
use crate::sysfs::tests::Fixture;

const NVME: u32 = 0x01_0802;

#[test]
fn a_host_with_an_iommu() {
    let fixture = Fixture::new();
    fixture.device("0000:01:00.0", NVME, Some("vfio-pci"), Some(12));
    fixture.device("0000:02:00.0", NVME, Some("nvme"), Some(13));
    fixture.device("0000:03:00.0", 0x06_0400, Some("pcieport"), Some(14));
    fixture.device("0000:04:00.0", NVME, Some("nvme"), Some(15));
    fixture.file("sys/bus/pci/devices/0000:04:00.0/sriov_numvfs", "2\n");
    fixture.file("sys/class/iommu/dmar1/intel-iommu/cap", "d2008c222f0686\n");
    fixture.file("sys/class/iommu/dmar0/intel-iommu/cap", "d2008c22260206\n");
    fixture.file("sys/firmware/acpi/tables/DMAR", "");
    fixture.file("proc/interrupts", "   CPU0\n 4:  12  IR-IO-APIC   4-edge  ttyS0\n");
    fixture.file("sys/module/iommufd/parameters/allow_unsafe_interrupts", "Y\n");
    let survey = fixture.host().survey().unwrap();
    let bits: Vec<_> =
        survey.iommus.iter().map(|it| (it.name.as_str(), it.kind(), it.address_bits)).collect();
    assert_eq!(bits, [("dmar0", "Intel VT-d", Some(39)), ("dmar1", "Intel VT-d", Some(48))]);
    assert_eq!((survey.table, survey.groups), (Some("DMAR"), 4));
    assert!(survey.remaps_interrupts && survey.allows_unsafe_interrupts && survey.has_vfio_pci);
    assert!(survey.container.is_empty());
    assert_eq!(survey.iommufd.len(), 1);
    let devices: Vec<_> =
        survey.devices.iter().map(|it| (it.device.address.to_string(), it.could_be_bound())).collect();
    assert_eq!(devices, [("0000:01:00.0".to_owned(), false), ("0000:02:00.0".to_owned(), true)]);
    assert!(survey.devices.first().unwrap().obstacles.is_empty());
}

#[test]
fn a_host_without() {
    let fixture = Fixture::new();
    fixture.file("proc/interrupts", "   CPU0\n 4:  12  IO-APIC   4-edge  ttyS0 AIR-X\n");
    std::fs::remove_dir_all(fixture.path("dev/vfio")).unwrap();
    let survey = fixture.host().survey().unwrap();
    assert_eq!((survey.iommus.len(), survey.table, survey.groups), (0, None, 0));
    assert!(!survey.remaps_interrupts && !survey.allows_unsafe_interrupts && !survey.has_cdevs);
    assert_eq!(survey.container.len(), 1);
}

#[test]
fn this_host_can_be_surveyed() {
    // A container may have no PCI.
    if let Ok(survey) = Host::default().survey() {
        assert!(survey.groups > 0 || !survey.devices.iter().any(|it| it.device.group.is_some()));
    }
}

#[test]
fn capabilities_are_any_text() {
    for text in ["", "x", "ffffffffffffffffff", "-1", "\u{e9}"] {
        assert_eq!(address_bits(text), None, "{text}");
    }
    assert_eq!(address_bits("ffffffffffffffff"), Some(64));
    assert_eq!(address_bits("0"), Some(1));
}
