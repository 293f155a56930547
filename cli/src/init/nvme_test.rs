use super::*;
use crate::init::fixture::Fixture;

const NVME: &str = "0000:00:01.0";

#[test]
fn waiting_follows_the_controller() {
    let fixture = Fixture::new();
    let system = fixture.system();
    let controller = Some(Pending::Controller(NVME.to_owned()));
    assert_eq!(pending(&system), controller, "bound, no controller yet");
    fixture.nvme("new\n", None);
    assert_eq!(pending(&system), controller);
    fixture.nvme("live\n", None);
    assert_eq!(pending(&system), Some(Pending::Namespaces(NVME.to_owned())));
    fixture.nvme("live\n", Some(("nvme0n1", "nvme0n1")));
    assert_eq!(pending(&system), Some(Pending::Namespaces(NVME.to_owned())), "no node in /dev yet");
    fixture.write("dev/nvme0n1", "");
    assert_eq!(pending(&system), None);
    fixture.nvme("dead\n", None);
    assert_eq!(pending(&system), None);
}

#[test]
fn nothing_is_awaited_of_a_controller_without_the_driver() {
    let fixture = Fixture::new();
    fixture.bind(NVME, "vfio-pci");
    assert_eq!(pending(&fixture.system()), None);
    fixture.unbind(NVME);
    assert_eq!(pending(&fixture.system()), Some(Pending::Controller(NVME.to_owned())), "it may bind yet");
}

#[test]
fn disks_have_their_size_and_function() {
    let fixture = Fixture::new();
    fixture.nvme("live\n", Some(("nvme0n1", "nvme0n1")));
    fixture.nvme("live\n", Some(("nvme3c0n2", "nvme3n2")));
    let disk = |name: &str| Disk { name: name.into(), function: NVME.into(), bytes: Some(64 << 20) };
    assert_eq!(disks(&fixture.system()), [disk("nvme0n1"), disk("nvme3n2")]);
}

#[test]
fn block_names() {
    assert_eq!(block_name("nvme0n1").as_deref(), Some("nvme0n1"));
    assert_eq!(block_name("nvme12c3n45").as_deref(), Some("nvme12n45"));
    for other in ["ng0n1", "nvme0", "nvme0n1p1", "nvmen1", "nvme0n", "hwmon0", "power", "nvme0n../x"] {
        assert_eq!(block_name(other), None, "{other}");
    }
}
