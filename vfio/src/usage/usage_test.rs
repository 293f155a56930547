use std::fs;
use std::os::unix::fs::symlink;

use super::*;
use crate::sysfs::tests::Fixture;

const NVME: u32 = 0x01_0802;
const NETWORK: u32 = 0x02_0000;
const VGA: u32 = 0x03_0000;
const DEVICES: &str = "../../devices/pci0000:00/0000:00:01.0";

/// A link in a class of sysfs.
fn class(fixture: &Fixture, path: &str, target: &str) {
    let path = fixture.path(&format!("sys/class/{path}"));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    symlink(target, path).unwrap();
}

/// A block device of 01:00.0, at `place` below its directory, whose directory is really there.
fn block(fixture: &Fixture, name: &str, place: &str, number: &str) {
    class(fixture, &format!("block/{name}"), &format!("{DEVICES}/0000:01:00.0/{place}{name}"));
    let directory = format!("sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0/{place}{name}");
    fixture.file(&format!("{directory}/dev"), &format!("{number}\n"));
    fs::create_dir_all(fixture.path(&format!("{directory}/holders"))).unwrap();
}

fn nvme() -> Fixture {
    let fixture = Fixture::new();
    fixture.device("0000:01:00.0", NVME, Some("nvme"), Some(12));
    block(&fixture, "nvme0n1", "nvme/nvme0/", "259:0");
    block(&fixture, "nvme0n1p1", "nvme/nvme0/nvme0n1/", "259:1");
    // Another's.
    class(&fixture, "block/sda", "../../devices/pci0000:00/0000:00:1f.2/ata1/block/sda");
    fixture
}

fn uses(fixture: &Fixture, address: &str) -> Vec<String> {
    let host = fixture.host();
    let device = host.find(address.parse().unwrap()).unwrap();
    let uses = host.uses(&device, &OpenNodes::scan(&host));
    let root = fixture.path("");
    assert!(uses.iter().all(|text| !text.to_string().contains(root.to_str().unwrap())));
    uses.iter().map(ToString::to_string).collect()
}

#[test]
fn a_device_that_nobody_uses_is_free() {
    let fixture = nvme();
    fixture.file("proc/self/mountinfo", "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n");
    fixture.file("proc/swaps", "Filename Type Size Used Priority\n/dev/sda2 partition 1 0 -2\n");
    assert_eq!(uses(&fixture, "01:00.0"), Vec::<String>::new());
}

#[test]
fn file_systems_and_swap_are_seen() {
    let fixture = nvme();
    fixture.file(
        "proc/self/mountinfo",
        "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
         23 22 259:1 / /mnt/my\\040disk rw,noatime shared:1 master:2 - ext4 /dev/root rw\n\
         24 22 0:40 /@home /home rw - btrfs /dev/nvme0n1 rw\nnonsense\n\n",
    );
    fixture.file(
        "proc/swaps",
        "Filename Type Size Used Priority\n/dev/nvme0n1p1 partition 1 0 -2\n/swap\\040file file 1 0 -3\n",
    );
    assert_eq!(
        uses(&fixture, "01:00.0"),
        ["nvme0n1 is mounted on /home", "nvme0n1p1 is mounted on /mnt/my disk", "nvme0n1p1 is swap space"]
    );
}

#[test]
fn what_is_made_of_a_disk_is_seen() {
    let fixture = nvme();
    let holders = fixture.path("sys/class/block/nvme0n1p1/holders");
    symlink("../../../dm-0", holders.join("dm-0")).unwrap();
    symlink("../../../md127", holders.join("md127")).unwrap();
    fixture.file("sys/class/block/dm-0/dm/name", "vg-root\n");
    let btrfs = fixture.path("sys/fs/btrfs/f00d/devices");
    fs::create_dir_all(&btrfs).unwrap();
    symlink("../../../../class/block/nvme0n1", btrfs.join("nvme0n1")).unwrap();
    assert_eq!(
        uses(&fixture, "01:00.0"),
        [
            "nvme0n1 is part of a mounted btrfs",
            "nvme0n1p1 is part of dm-0 (vg-root)",
            "nvme0n1p1 is part of md127"
        ]
    );
}

#[test]
fn a_drive_behind_several_controllers_is_seen_through_each() {
    let fixture = Fixture::new();
    fixture.device("0000:01:00.0", NVME, Some("nvme"), Some(12)).device("0000:02:00.0", NVME, None, Some(13));
    class(&fixture, "block/nvme0n1", "../../devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1");
    let subsystem = "sys/devices/virtual/nvme-subsystem/nvme-subsys0";
    fixture.file(&format!("{subsystem}/nvme0n1/dev"), "259:0\n");
    symlink(
        "../../../pci0000:00/0000:00:01.0/0000:01:00.0/nvme/nvme0",
        fixture.path(&format!("{subsystem}/nvme0")),
    )
    .unwrap();
    fixture.file("proc/self/mountinfo", "22 1 259:0 / /data rw - xfs /dev/nvme0n1 rw\n");
    assert_eq!(uses(&fixture, "01:00.0"), ["nvme0n1 is mounted on /data"]);
    assert_eq!(uses(&fixture, "02:00.0"), Vec::<String>::new());
}

#[test]
fn who_has_a_disk_open_is_named() {
    let fixture = nvme();
    for pid in 4711..4717 {
        fixture.file(&format!("proc/{pid}/comm"), "qemu-system-x86\n");
        fs::create_dir(fixture.path(&format!("proc/{pid}/fd"))).unwrap();
        let fds = [("0", "dev/null"), ("17", "dev/nvme0n1"), ("18", "dev/nvme0n1")];
        for (fd, node) in fds {
            symlink(fixture.path(node), fixture.path(&format!("proc/{pid}/fd/{fd}"))).unwrap();
        }
    }
    let [open] = <[String; 1]>::try_from(uses(&fixture, "01:00.0")).unwrap();
    assert!(open.starts_with("/dev/nvme0n1 is open in qemu-system-x86 (pid 471"), "{open}");
    assert!(open.ends_with("), 2 more"), "{open}");
}

#[test]
fn the_way_to_the_host_is_seen() {
    let fixture = Fixture::new();
    fixture.device("0000:01:00.0", NETWORK, Some("e1000e"), Some(12));
    class(&fixture, "net/eth0", &format!("{DEVICES}/0000:01:00.0/net/eth0"));
    let net = "sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0/net/eth0";
    fs::create_dir_all(fixture.path(net)).unwrap();
    assert_eq!(uses(&fixture, "01:00.0"), Vec::<String>::new());

    // A VLAN on a bond of it; a bond that is its own master ends nothing.
    symlink("../bond0", fixture.path(&format!("{net}/master"))).unwrap();
    fs::create_dir_all(fixture.path("sys/class/net/bond0")).unwrap();
    symlink("../bond0", fixture.path("sys/class/net/bond0/master")).unwrap();
    symlink("../vlan9", fixture.path("sys/class/net/bond0/upper_vlan9")).unwrap();
    let default = "vlan9\t00000000\t0202000A\t0003\t0\t0\t100\t00000000\t0\t0\t0\n";
    let near = "eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
    fixture.file("proc/net/route", &format!("Iface\tDestination\n{default}{near}{default}"));
    assert_eq!(uses(&fixture, "01:00.0"), ["vlan9 carries the default route"]);

    // sudo has cleared our own environment.
    fixture.file("proc/self/environ", "PATH=/bin\0");
    fixture.file("proc/self/status", "Name:\tvmm\nPPid:\t42\n");
    fixture.file("proc/42/status", "Name:\tsudo\nPPid:\t41\n");
    fixture.file("proc/41/environ", "A=b\0SSH_CONNECTION=192.0.2.9 50000 192.0.2.1 22\0");
    assert_eq!(
        uses(&fixture, "01:00.0"),
        ["vlan9 carries the default route", "eth0 carries this ssh session, from 192.0.2.9"]
    );
    // Processes that are each other's parents end nothing.
    fixture.file("proc/41/environ", "");
    fixture.file("proc/41/status", "PPid:\t42\n");
    assert_eq!(uses(&fixture, "01:00.0"), ["vlan9 carries the default route"]);
}

#[test]
fn the_only_display_of_the_console_is_seen() {
    let fixture = Fixture::new();
    fixture.device("0000:01:00.0", VGA, Some("amdgpu"), Some(12)).device("0000:02:00.0", VGA, None, Some(13));
    fixture.file("sys/bus/pci/devices/0000:01:00.0/boot_vga", "1\n");
    fixture.file("sys/bus/pci/devices/0000:02:00.0/boot_vga", "0\n");
    assert_eq!(uses(&fixture, "01:00.0"), ["it is the only display of the console"]);
    assert_eq!(uses(&fixture, "02:00.0"), Vec::<String>::new());
    fixture.device("0000:03:00.0", VGA, Some("ast"), Some(14));
    fixture.file("sys/bus/pci/devices/0000:03:00.0/boot_vga", "0\n");
    assert_eq!(uses(&fixture, "01:00.0"), Vec::<String>::new());
}

#[test]
fn who_draws_on_a_display_is_named() {
    let fixture = Fixture::new();
    fixture.device("0000:01:00.0", VGA, Some("nvidia"), Some(12));
    class(&fixture, "drm/card0", &format!("{DEVICES}/0000:01:00.0/drm/card0"));
    fixture.file("proc/driver/nvidia/gpus/0000:01:00.0/information", "Model: \t X\nDevice Minor: \t 3\n");
    for (pid, name, node) in [(7, "Xorg", "dev/dri/card0"), (8, "python3", "dev/nvidia3")] {
        fixture.file(&format!("proc/{pid}/comm"), &format!("{name}\n"));
        fs::create_dir(fixture.path(&format!("proc/{pid}/fd"))).unwrap();
        symlink(fixture.path(node), fixture.path(&format!("proc/{pid}/fd/3"))).unwrap();
    }
    assert_eq!(
        uses(&fixture, "01:00.0"),
        ["/dev/dri/card0 is open in Xorg (pid 7)", "/dev/nvidia3 is open in python3 (pid 8)"]
    );
}

#[test]
fn virtual_functions_and_the_board_are_seen() {
    let fixture = Fixture::new();
    fixture.device("0000:01:00.0", NETWORK, Some("igb"), Some(12)).device(
        "0000:00:1f.0",
        0x06_0100,
        None,
        Some(8),
    );
    fixture.file("sys/bus/pci/devices/0000:01:00.0/sriov_numvfs", "0\n");
    assert_eq!(uses(&fixture, "01:00.0"), Vec::<String>::new());
    fixture.file("sys/bus/pci/devices/0000:01:00.0/sriov_numvfs", "7\n");
    assert_eq!(uses(&fixture, "01:00.0"), ["7 virtual functions of it are enabled"]);
    assert_eq!(uses(&fixture, "00:1f.0"), ["it is a bridge of the board"]);
}
