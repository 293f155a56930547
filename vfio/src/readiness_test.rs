use std::fs;
use std::os::unix::fs::symlink;

use super::*;
use crate::sysfs::tests::Fixture;

const NVME: u32 = 0x01_0802;

fn look(fixture: &Fixture, address: &str) -> (Vec<String>, Vec<String>) {
    let host = fixture.host();
    let device = host.find(address.parse().unwrap()).unwrap();
    let Readiness { obstacles, uses } = host.readiness(&device, &OpenNodes::scan(&host));
    let obstacles = obstacles
        .iter()
        .map(|error| error.to_string().replace(&format!("{}", fixture.path("").display()), "/"));
    (obstacles.collect(), uses.iter().map(ToString::to_string).collect())
}

#[test]
fn a_bound_device_is_ready_if_one_way_to_it_is_open() {
    let fixture = Fixture::new();
    fixture.device("0000:01:00.0", NVME, Some("vfio-pci"), Some(12));
    assert_eq!(look(&fixture, "01:00.0"), (vec![], vec![]));
    fs::remove_file(fixture.path("dev/vfio/12")).unwrap();
    let missing = "/dev/vfio/12 does not exist, though 0000:01:00.0 is bound to VFIO";
    assert_eq!(look(&fixture, "01:00.0"), (vec![missing.to_owned()], vec![]));
    fs::create_dir_all(fixture.path("sys/bus/pci/devices/0000:01:00.0/vfio-dev/vfio3")).unwrap();
    assert_eq!(look(&fixture, "01:00.0"), (vec![missing.to_owned()], vec![]));
    fixture.file("dev/vfio/devices/vfio3", "");
    assert_eq!(look(&fixture, "01:00.0"), (vec![], vec![]));
}

#[test]
fn a_device_in_use_is_said_to_be_without_opening_it() {
    let fixture = Fixture::new();
    fixture.device("0000:01:00.0", NVME, Some("vfio-pci"), Some(12));
    fixture.file("proc/4711/comm", "vmm\n");
    fs::create_dir_all(fixture.path("proc/4711/fd")).unwrap();
    symlink(fixture.path("dev/vfio/12"), fixture.path("proc/4711/fd/17")).unwrap();
    assert_eq!(
        look(&fixture, "01:00.0"),
        (vec!["/dev/vfio/12 is in use by vmm (pid 4711)".to_owned()], vec![])
    );
}

#[test]
fn a_device_of_the_host_is_one_command_away_unless_it_is_used() {
    let fixture = Fixture::new();
    fixture.device("0000:01:00.0", NVME, Some("nvme"), Some(12));
    fixture.file("sys/bus/pci/devices/0000:01:00.0/sriov_numvfs", "2\n");
    assert_eq!(
        look(&fixture, "01:00.0"),
        (
            vec!["0000:01:00.0 is bound to the host driver nvme".to_owned()],
            vec!["2 virtual functions of it are enabled".to_owned()]
        )
    );
}
