use std::fs;

use crate::sysfs::tests::Fixture;

#[test]
fn a_mark_stays_until_it_is_taken_back() {
    let fixture = Fixture::new();
    fixture.device("0000:01:00.0", 0x01_0802, Some("vfio-pci"), Some(12));
    let (host, address) = (fixture.host(), "01:00.0".parse().unwrap());
    let device = host.find(address).unwrap();
    assert_eq!(host.mark(&device), None);
    host.set_mark(address, None);
    // From here on by the thread that keeps them, which is waited for.
    super::keep();
    host.set_mark(address, Some("it does not answer"));
    host.set_mark(address, Some("it was not reset"));
    assert_eq!(host.mark(&device).as_deref(), Some("it was not reset"));
    // Another device has come into the slot.
    fixture.file("sys/bus/pci/devices/0000:01:00.0/device", "0x0001\n");
    assert_eq!(host.mark(&host.find(address).unwrap()), None);
    host.set_mark(address, None);
    assert_eq!(host.mark(&device), None);
    // A device that is gone has no marks.
    host.set_mark("02:00.0".parse().unwrap(), Some("x"));
    assert_eq!(fs::read_dir(fixture.path("run/vmm/marks")).unwrap().count(), 0);
}

#[test]
fn where_nothing_can_be_written_there_are_no_marks() {
    let fixture = Fixture::new();
    fixture.device("0000:01:00.0", 0x01_0802, Some("vfio-pci"), Some(12)).file("run", "");
    let host = fixture.host();
    let address = "01:00.0".parse().unwrap();
    host.set_mark(address, Some("x"));
    assert_eq!(host.mark(&host.find(address).unwrap()), None);
}
