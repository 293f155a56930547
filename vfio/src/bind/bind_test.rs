use std::fs;
use std::os::unix::fs::symlink;

use miette::Diagnostic;

use super::*;
use crate::sysfs::tests::Fixture;

const NVME: u32 = 0x01_0802;
const NETWORK: u32 = 0x02_0000;
const BRIDGE: u32 = 0x06_0400;

fn address(text: &str) -> PciAddress {
    text.parse().unwrap()
}

/// Every error as `message`, then `help: ` and the remedy, with the fixture's root left out.
fn texts<'a>(fixture: &Fixture, errors: impl IntoIterator<Item = &'a BindError>) -> Vec<String> {
    let text = |error: &BindError| {
        let help = error.help().map(|help| format!("\nhelp: {help}")).unwrap_or_default();
        format!("{error}{help}").replace(&format!("{}", fixture.path("").display()), "/")
    };
    errors.into_iter().map(text).collect()
}

#[test]
fn what_speaks_against_binding_is_said_at_once() {
    let fixture = Fixture::new();
    fixture
        .device("0000:01:00.0", NVME, Some("nvme"), Some(12))
        .device("0000:02:00.0", BRIDGE, Some("pcieport"), Some(13))
        .device("0000:03:00.0", NVME, Some("nvme"), None);
    fs::create_dir_all(fixture.path("sys/class/block")).unwrap();
    let disk = "../../devices/pci0000:00/0000:01:00.0/nvme/nvme0/nvme0n1";
    symlink(disk, fixture.path("sys/class/block/nvme0n1")).unwrap();
    fixture.file("proc/self/mountinfo", "22 1 259:0 / / rw - ext4 /dev/nvme0n1 rw\n");
    let binder = Binder::new(fixture.host()).unwrap();
    let objections = |text, force| texts(&fixture, &binder.objections(address(text), force));
    assert_eq!(
        objections("01:00.0", false),
        ["0000:01:00.0 is in use by the host: nvme0n1 is mounted on /\n\
          help: end that first; `--force` takes the device away all the same"]
    );
    assert_eq!(objections("01:00.0", true), Vec::<String>::new());
    assert_eq!(
        objections("02:00.0", true),
        ["0000:02:00.0 is a PCI bridge, which cannot be passed through\nhelp: name the devices behind it"]
    );
    fs::remove_dir(fixture.path("sys/bus/pci/drivers/vfio-pci")).unwrap();
    assert_eq!(
        objections("03:00.0", true),
        [
            "0000:03:00.0 has no IOMMU group: no IOMMU is in charge of it\n\
             help: use a device behind an IOMMU; `dmesg | grep -i iommu` tells which units the kernel found",
            "the host has no vfio-pci driver\nhelp: modprobe vfio-pci",
        ]
    );
    assert_eq!(
        objections("04:00.0", false),
        [
            "there is no PCI device 0000:04:00.0\nhelp: the devices of this host are listed in /sys/bus/pci/devices"
        ]
    );
}

#[test]
fn a_group_is_taken_without_its_bridges() {
    let fixture = Fixture::new();
    fixture
        .device("0000:01:00.0", NVME, Some("nvme"), Some(12))
        .device("0000:01:00.1", NETWORK, None, Some(12))
        .device("0000:00:01.0", BRIDGE, Some("pcieport"), Some(12))
        .device("0000:02:00.0", NVME, None, Some(13));
    let binder = Binder::new(fixture.host()).unwrap();
    let expand = |texts: &[&str], whole| {
        let addresses: Vec<PciAddress> = texts.iter().map(|text| address(text)).collect();
        let all = binder.expand(&addresses, whole).unwrap();
        all.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(expand(&["02:00.0", "01:00.1"], false), ["0000:01:00.1", "0000:02:00.0"]);
    assert_eq!(expand(&["02:00.0", "01:00.1"], true), ["0000:01:00.0", "0000:01:00.1", "0000:02:00.0"]);
    assert_eq!(binder.expand(&[address("05:00.0")], true).unwrap_err().len(), 1);
}

#[test]
fn a_device_that_a_machine_has_is_held() {
    let fixture = Fixture::new();
    fixture.device("0000:01:00.0", NVME, Some("vfio-pci"), Some(12));
    fs::create_dir_all(fixture.path("sys/bus/pci/devices/0000:01:00.0/vfio-dev/vfio3")).unwrap();
    let binder = Binder::new(fixture.host()).unwrap();
    binder.held(address("01:00.0")).unwrap();
    for node in ["dev/vfio/12", "dev/vfio/devices/vfio3"] {
        fixture.file("proc/4711/comm", "vmm\n");
        fs::create_dir_all(fixture.path("proc/4711/fd")).unwrap();
        symlink(fixture.path(node), fixture.path("proc/4711/fd/17")).unwrap();
        let error = binder.held(address("01:00.0")).unwrap_err();
        assert_eq!(
            texts(&fixture, [&error]),
            [format!(
                "0000:01:00.0 is passed through: /{node} is open in vmm (pid 4711)\nhelp: end that first; with \
                 `--force` the kernel asks for the device, and waits until it is closed"
            )]
        );
        fs::remove_dir_all(fixture.path("proc/4711")).unwrap();
    }
}

#[test]
fn records_are_there_whole_or_not_at_all() {
    let fixture = Fixture::new();
    fixture.device("0000:01:00.0", NVME, Some("vfio-pci"), Some(12));
    let (host, at) = (fixture.host(), address("01:00.0"));
    let records = Records::of(&host);
    let device = host.find(at).unwrap();
    assert_eq!((records.read(at), host.bind_record(&device)), (None, None));
    drop(records.lock().unwrap());
    let record = Record {
        vendor: 0x144d,
        device: 0xa808,
        driver: Some("i6300ESB timer".into()),
        driver_override: None,
    };
    records.write(at, &record).unwrap();
    assert_eq!((records.read(at), host.bind_record(&device)), (Some(record.clone()), Some(record.clone())));
    let text = fs::read_to_string(fixture.path("run/vmm/bind/0000:01:00.0")).unwrap();
    assert_eq!(
        text,
        "{\"vendor\":5197,\"device\":43016,\"driver\":\"i6300ESB timer\",\"driver_override\":null}\n"
    );

    for nonsense in [
        &text[..40],
        "",
        "{}",
        "{\"vendor\":1,\"device\":2,\"driver\":\"../../x\",\"driver_override\":null}",
        "{\"vendor\":1,\"device\":2,\"driver\":\"a\\nb\",\"driver_override\":null}",
        "{\"vendor\":1,\"device\":2,\"driver\":\"\",\"driver_override\":null}",
        "{\"vendor\":1,\"device\":2,\"driver\":null,\"driver_override\":\"..\"}",
        &format!(
            "{{\"vendor\":1,\"device\":2,\"driver\":\"{}\",\"driver_override\":null}}",
            "x".repeat(5000)
        ),
    ] {
        fixture.file("run/vmm/bind/0000:01:00.0", nonsense);
        assert_eq!(records.read(at), None, "{nonsense}");
    }
    // Another device has come into the slot.
    records.write(at, &Record { device: 1, ..record }).unwrap();
    assert_eq!(host.bind_record(&device), None);
    records.remove(at).unwrap();
    records.remove(at).unwrap();
    assert_eq!(records.read(at), None);
}

#[test]
fn only_one_binds_at_a_time() {
    let fixture = Fixture::new();
    let first = Binder::new(fixture.host()).unwrap();
    let host = fixture.host();
    let second = std::thread::spawn(move || Binder::new(host).map(drop));
    let lock = File::open(fixture.path("run/vmm/bind/lock")).unwrap();
    assert!(lock.try_lock().is_err());
    drop(first);
    second.join().unwrap().unwrap();
}

#[test]
fn what_cannot_be_written_is_named() {
    let fixture = Fixture::new();
    fixture.device("0000:01:00.0", NVME, Some("nvme"), Some(12));
    let binder = Binder::new(fixture.host()).unwrap();
    // A sysfs without `driver_override`: nothing has been changed.
    let error = binder.bind(address("01:00.0")).unwrap_err();
    assert_eq!(texts(&fixture, [&error]), ["cannot read /sys/bus/pci/devices/0000:01:00.0/driver_override"]);
    // Nor is the device touched before what it was like is written down.
    let fixture = Fixture::new();
    fixture.file("run", "");
    let error = Binder::new(fixture.host()).err().unwrap();
    assert_eq!(
        texts(&fixture, [&error]),
        ["cannot keep a record at /run/vmm/bind\nhelp: binding takes root, and a /run that can be written"]
    );
}

#[test]
fn the_override_is_written_as_a_line() {
    let fixture = Fixture::new();
    fixture.device("0000:01:00.0", NVME, None, Some(12));
    let file = "sys/bus/pci/devices/0000:01:00.0/driver_override";
    let host = fixture.host();
    let records = Records::of(&host);
    let slot = HostSlot { host: &host, records: &records, address: address("01:00.0") };
    fixture.file(file, "(null)\n");
    assert_eq!(slot.driver_override().unwrap(), None);
    fixture.file(file, "pci-stub\n");
    assert_eq!(slot.driver_override().unwrap().as_deref(), Some("pci-stub"));
    fixture.file(file, "");
    slot.set_override(Some("vfio-pci")).unwrap();
    assert_eq!(fs::read_to_string(fixture.path(file)).unwrap(), "vfio-pci\n");
    fixture.file(file, "");
    slot.set_override(None).unwrap();
    assert_eq!(fs::read_to_string(fixture.path(file)).unwrap(), "\n");
    assert!(matches!(slot.attach("gone"), Err(BindError::NoDriver { .. })));
    assert!(matches!(slot.detach("gone"), Err(BindError::Write { .. })));
}
