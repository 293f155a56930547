use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::*;

/// A PCI device in a sysfs of ours.
struct Pci {
    address: &'static str,
    class: &'static str,
    driver: Option<&'static str>,
    group: Option<u32>,
    reset: &'static str,
}

fn lay(root: &Path, pci: &Pci) {
    let device = root.join("sys/bus/pci/devices").join(pci.address);
    fs::create_dir_all(&device).unwrap();
    let write = |name: &str, text: &str| fs::write(device.join(name), text).unwrap();
    write("vendor", "0x8086\n");
    write("device", "0x10d3\n");
    write("class", &format!("{}\n", pci.class));
    write("numa_node", "1\n");
    write("reset_method", pci.reset);
    let none = "0x0000000000000000 0x0000000000000000 0x0000000000000000\n".repeat(4);
    write(
        "resource",
        &format!(
            "0x00000000fe000000 0x00000000fe01ffff 0x0000000000040200\n{none}\
             0x0000004000000000 0x0000005fffffffff 0x000000000014220c\n"
        ),
    );
    if let Some(driver) = pci.driver {
        symlink(format!("../../../../bus/pci/drivers/{driver}"), device.join("driver")).unwrap();
    }
    if let Some(group) = pci.group {
        let members = root.join(format!("sys/kernel/iommu_groups/{group}/devices"));
        fs::create_dir_all(&members).unwrap();
        symlink(&device, members.join(pci.address)).unwrap();
        symlink(members.parent().unwrap(), device.join("iommu_group")).unwrap();
        let node = root.join(format!("dev/vfio/{group}"));
        fs::create_dir_all(node.parent().unwrap()).unwrap();
        fs::write(node, "").unwrap();
    }
}

const NET: &str = "0x020000";

/// One of each kind.
fn host() -> (tempfile::TempDir, Vec<Entry>) {
    let root = tempfile::tempdir().unwrap();
    for directory in ["sys/bus/pci/drivers/vfio-pci", "proc/7/fd", "sys/kernel/iommu_groups"] {
        fs::create_dir_all(root.path().join(directory)).unwrap();
    }
    let pci = |address, class, driver, group| Pci { address, class, driver, group, reset: "flr bus\n" };
    for pci in [
        pci("0000:00:01.0", "0x060400", Some("pcieport"), Some(1)),
        pci("0000:01:00.0", NET, Some("vfio-pci"), Some(2)),
        pci("0000:02:00.0", NET, Some("e1000e"), Some(3)),
        pci("0000:03:00.0", NET, Some("vfio-pci"), Some(4)),
        pci("0000:03:00.1", NET, Some("snd\x1b[31m\u{9b}\x7f"), Some(4)),
        pci("0000:04:00.0", NET, Some("vfio-pci"), Some(5)),
        pci("0000:05:00.0", NET, None, None),
        Pci { reset: "\n", ..pci("0000:06:00.0", NET, Some("igb"), Some(6)) },
        pci("0000:07:00.0", NET, Some("vfio-pci"), Some(7)),
    ] {
        lay(root.path(), &pci);
    }
    fs::write(root.path().join("sys/bus/pci/devices/0000:06:00.0/sriov_numvfs"), "3\n").unwrap();
    fs::write(root.path().join("sys/bus/pci/devices/0000:07:00.0/config"), [0xff; 64]).unwrap();
    fs::write(root.path().join("proc/7/comm"), "vmm\n").unwrap();
    symlink(root.path().join("dev/vfio/5"), root.path().join("proc/7/fd/9")).unwrap();
    fs::create_dir_all(root.path().join("run/vmm/bind")).unwrap();
    fs::write(
        root.path().join("run/vmm/bind/0000:01:00.0"),
        r#"{"vendor":32902,"device":4307,"driver":"e1000e","driver_override":null}"#,
    )
    .unwrap();
    fs::create_dir_all(root.path().join("run/vmm/marks")).unwrap();
    fs::write(
        root.path().join("run/vmm/marks/0000:01:00.0"),
        r#"{"vendor":32902,"device":4307,"what":"it cannot be reset, and keeps what its last guest left"}"#,
    )
    .unwrap();
    let host = Host::at(root.path());
    let open = OpenNodes::scan(&host);
    let entries =
        host.addresses().unwrap().into_iter().map(|address| Entry::find(&host, address, &open).unwrap());
    let entries = entries.collect();
    (root, entries)
}

#[test]
fn a_table_for_people() {
    let (_root, entries) = host();
    assert_eq!(report::printable(&table::render(&entries, &Names::default())), include_str!("table.txt"));
}

#[test]
fn all_about_a_device() {
    let (root, entries) = host();
    let texts: Vec<String> = entries.iter().map(|entry| detail::render(entry, &Names::default())).collect();
    let text = report::printable(&texts.join("\n")).replace(root.path().to_str().unwrap(), "");
    assert_eq!(text, include_str!("detail.txt"));
}

#[test]
fn json_for_programs() {
    let (_root, entries) = host();
    let text = json::render(&entries, &Names::default());
    assert_eq!(report::printable(&text), text);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["schema"], "vmm-devices/1");
    assert_eq!(json["devices"][4]["driver"], "snd\u{1b}[31m\u{9b}\u{7f}");
    let device = &json["devices"][1];
    let expected = serde_json::json!({
        "address": "0000:01:00.0",
        "class": "020000",
        "class_name": "Ethernet controller",
        "vendor": "8086",
        "vendor_name": null,
        "device": "10d3",
        "device_name": null,
        "driver": "vfio-pci",
        "former_driver": "e1000e",
        "iommu_group": {"id": 2, "members": [{"address": "0000:01:00.0", "driver": "vfio-pci"}]},
        "numa_node": 1,
        "reset_methods": ["flr", "bus"],
        "bars": [{"index": 0, "bytes": 131072}, {"index": 5, "bytes": 137_438_953_472u64}],
        "ready": true,
        "mark": "it cannot be reset, and keeps what its last guest left",
        "summary": "ready, but it cannot be reset, and keeps what its last guest left",
        "in_use": [],
        "obstacles": [],
    });
    assert_eq!(device, &expected);
    let busy = &json["devices"][7];
    assert_eq!(
        (&busy["ready"], &busy["in_use"][0]),
        (&false.into(), &"3 virtual functions of it are enabled".into())
    );
    assert_eq!(busy["obstacles"][0]["problem"], "0000:06:00.0 is bound to the host driver igb");
    assert!(busy["obstacles"][0]["remedy"].as_str().unwrap().contains("vmm bind 0000:06:00.0"));
}

#[test]
fn every_device_of_this_machine_can_be_shown() {
    let host = Host::default();
    let open = OpenNodes::scan(&host);
    let names = Names::of_system();
    for address in host.addresses().unwrap_or_default() {
        // Devices come and go.
        let Ok(entry) = Entry::find(&host, address, &open) else { continue };
        assert!(detail::render(&entry, &names).starts_with(&address.to_string()));
    }
}
