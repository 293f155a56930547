use std::time::Duration;
use vfio::Request;

use memory::pin::PinOptions;
use proptest::prelude::*;

use super::*;
use crate::machine::placement::Placement;
use crate::virtio::net::NetServer;

impl MachineSpec {
    /// What `vmm --api-socket` gives a machine that is created without saying.
    pub(crate) fn for_api() -> Self {
        Self {
            kernel: None,
            initrd: None,
            cmdline: "console=ttyS0".to_owned(),
            memory: 512 << 20,
            backing: Backing::Pages,
            pluggable: None,
            cpus: 1,
            numa: Vec::new(),
            placement: Placement::default(),
            pcie_ports: 0,
            vfio: Request::default(),
            virtio: crate::VirtioSpec::default(),
            plugged: Vec::new(),
            pin: PinOptions::default(),
            prefault: false,
            on_panic: None,
            watchdog: None,
            stop_on_reset: false,
            on_exit: crate::OnExit::Stop,
            debug_exit: false,
            serial: Serial::Null,
            end_of_input: None,
            settled: None,
            grace: Duration::ZERO,
        }
    }
}

fn parse(config: &Value) -> Result<Configuration, Vec<String>> {
    Configuration::parse(config.to_string().as_bytes(), &MachineSpec::for_api()).map_err(|error| {
        assert_eq!(error.status, 400);
        error.messages
    })
}

fn least() -> Value {
    json!({ "payload": { "kernel": "/boot/vmlinux" } })
}

/// The least, with one more field.
fn with(name: &str, value: Value) -> Value {
    let mut config = least();
    config[name] = value;
    config
}

#[test]
fn what_is_not_said_has_its_default() {
    let spec = parse(&least()).unwrap().spec;
    assert_eq!((spec.cpus, spec.memory, spec.serial), (1, 512 << 20, Serial::Null));
    assert_eq!((spec.kernel.as_deref(), spec.cmdline.as_str()), (Some(Path::new("/boot/vmlinux")), ""));
    assert!(spec.initrd.is_none() && spec.vfio.is_empty());
}

#[test]
fn everything_that_can_be_had_is_read() {
    let configuration = parse(&json!({
        "cpus": { "boot_vcpus": 4, "max_vcpus": 8, "nested": true, "features": { "amx": false }, "topology": null },
        "memory": { "size": 1 << 30, "shared": true, "prefault": true, "hugepages": false, "hotplug_method": "Acpi", "hotplug_size": 1 << 30, "zones": [] },
        "payload": { "kernel": "/k", "initramfs": "/i", "cmdline": "console=ttyS0", "firmware": null },
        "serial": { "mode": "File", "file": "/var/log/guest" },
        "console": { "mode": "Socket", "socket": "/run/hvc0", "file": null, "iommu": false },
        "disks": [
            { "path": "/d.qcow2", "readonly": true, "image_type": "Qcow2", "id": "root", "num_queues": 2 },
            { "path": "/e", "rate_limiter_config": { "bandwidth": { "size": 1000, "refill_time": 100 } } },
        ],
        "net": [
            { "tap": "tap0", "mac": "02:00:5e:10:00:01", "num_queues": 4, "queue_size": 256 },
            { "tap": "tap1", "rate_limiter_config": { "ops": { "size": 10, "one_time_burst": 5, "refill_time": 100 } } },
        ],
        "rng": { "src": "/dev/urandom", "iommu": false }, "watchdog": false, "iommu": false,
        "vsock": { "cid": 5, "socket": "/run/vm.vsock", "id": "_vsock0", "iommu": false },
        "fs": [{ "tag": "home", "socket": "/run/home.sock", "num_queues": 2 }],
        "pmem": [{ "file": "/p", "size": 4 << 20, "discard_writes": false, "iommu": false }, { "file": "/q", "readonly": true }],
        "platform": { "num_pci_segments": 1, "iommufd": false },
        "devices": [
            { "path": "/sys/bus/pci/devices/0000:01:00.0", "id": "gpu", "iommu": false, "pci_segment": 0 },
            { "path": "/sys/devices/pci0000:00/0000:00:02.0/", "iommu": true },
        ],
    }))
    .unwrap();
    let spec = &configuration.spec;
    assert_eq!((spec.cpus, spec.memory, spec.prefault), (4, 1 << 30, true));
    assert_eq!(spec.serial, Serial::File("/var/log/guest".into()));
    assert!(spec.virtio.rng);
    assert_eq!(spec.vfio.confined(), ["00:02.0".parse().unwrap()]);
    assert_eq!(configuration.to_json(None)["console"], json!({ "mode": "Socket", "socket": "/run/hvc0" }));
    let [first, second] = &spec.virtio.disks[..] else { panic!("{:?}", spec.virtio.disks) };
    assert!(first.options.read_only && first.queues == Some(2));
    assert_eq!(second.limits.bytes.map(|rate| (rate.per_second, rate.burst)), Some((10_000, 1000)));
    let described = &configuration.to_json(None)["disks"];
    assert_eq!((&described[0]["image_type"], &described[0]["readonly"]), (&json!("Qcow2"), &json!(true)));
    assert_eq!(described[1]["rate_limiter_config"]["bandwidth"], json!({ "size": 1000, "refill_time": 100 }));
    let server = crate::VsockServer::Bridge("/run/vm.vsock".into());
    let vsock = crate::VsockSpec { cid: 5, server };
    assert_eq!(spec.virtio.vsock, Some(vsock));
    assert_eq!(configuration.to_json(None)["vsock"]["cid"], 5);
    let share = json!({ "tag": "home", "socket": "/run/home.sock", "num_queues": 2, "queue_size": 1024 });
    assert_eq!(configuration.to_json(None)["fs"], json!([share]));
    let [first, second] = &spec.virtio.pmems[..] else { panic!("{:?}", spec.virtio.pmems) };
    assert_eq!(
        (first.size, first.read_only, second.size, second.read_only),
        (Some(4 << 20), false, None, true)
    );
    assert_eq!(configuration.to_json(None)["pmem"][1]["readonly"], true);
    let net = &configuration.to_json(None)["net"][0];
    assert_eq!(
        (&net["tap"], &net["num_queues"], &net["offload_csum"]),
        (&json!("tap0"), &json!(4), &json!(true))
    );
    let limited = &configuration.to_json(None)["net"][1]["rate_limiter_config"];
    assert_eq!(limited, &json!({ "ops": { "size": 15, "refill_time": 150 } }));
    let NetServer::Us { packed: false, limits } = spec.virtio.nets[1].server else { panic!("{spec:?}") };
    assert_eq!((limits.received, limits.sent.operations.unwrap().per_second), (limits.sent, 100));
    assert_eq!(configuration.to_json(None)["rng"]["src"], "/dev/urandom");
    assert!(matches!(&spec.initrd, Some(InitrdSource::File(path)) if path == Path::new("/i")));
    assert_eq!(
        spec.vfio.addresses().iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["0000:01:00.0", "0000:00:02.0"]
    );
    assert_eq!(configuration.ids.keys().collect::<Vec<_>>(), ["_vfio0", "gpu"]);
}

#[test]
fn what_cannot_be_had_is_refused_by_name() {
    for (config, message) in [
        (
            with("disks", json!([{}])),
            "`disks[0].path` is missing: it is the path of an image or of a block device",
        ),
        (
            with("disks", json!([{ "path": "/d", "image_type": "Vhdx" }])),
            "`disks[0].image_type` cannot be Vhdx; Raw and Qcow2 can be had",
        ),
        (
            with("disks", json!([{ "path": "/d" }, { "path": "/e", "vhost_user": true }])),
            "`disks[1].vhost_user` can only be false",
        ),
        (
            with("disks", json!([{ "path": "/d", "rate_limiter_config": { "ops": { "size": 1 } } }])),
            "`disks[0].rate_limiter_config.ops.refill_time` and size must be above 0",
        ),
        (
            with("rng", json!({ "src": "/dev/hwrng" })),
            "`rng.src` must be /dev/urandom: entropy comes from the host's generator",
        ),
        (with("rng", json!({ "iommu": true })), "`rng.iommu` can only be false"),
        (
            with("vsock", json!({ "cid": 3 })),
            "`vsock.socket` is missing: it is the path that programs of the host connect to",
        ),
        (
            with("vsock", json!({ "cid": 3, "socket": "/run/vm.vsock", "vhost": true })),
            "`vsock.socket` does not go with vhost: the kernel's sockets have no path",
        ),
        (
            with("fs", json!([{ "tag": "t" }])),
            "`fs[0].socket` is missing: it is the path that the directory's daemon listens at",
        ),
        (
            with("fs", json!([{ "tag": "t", "socket": "/s", "num_queues": 1_u64 << 40 }])),
            "--fs tag=t: a device cannot have 65535 request queues, but 1 to 64",
        ),
        (
            with("pmem", json!([{}])),
            "`pmem[0].file` is missing: it is the path of the file that the memory is",
        ),
        (
            with("pmem", json!([{ "file": "/p", "discard_writes": true }])),
            "`pmem[0].discard_writes` is not supported",
        ),
        (with("net", json!([{}])), "`net[0].tap` is missing: a network card needs the name of a tap"),
        (
            with("net", json!([{ "tap": "t", "mac": "01:00:00:00:00:00" }])),
            "`net[0].mac` must be the MAC address of a card, such as 02:00:5e:10:00:01",
        ),
        (
            with("net", json!([{ "tap": "t", "num_queues": 3 }])),
            "`net[0].num_queues` must be even: queues come in pairs",
        ),
        (with("net", json!([{ "tap": "t", "ip": "10.0.0.1" }])), "`net[0].ip` is not supported"),
        (with("watchdog", json!(true)), "`watchdog` is not supported"),
        (with("memroy", json!({})), "`memroy` is not supported"),
        (
            with("memory", json!({ "size": 3 << 20, "hugepages": true, "hugepage_size": 2 << 20 })),
            "guest memory of 3 MiB is not a whole number of huge pages of 2 MiB",
        ),
        (with("memory", json!({ "size": "1G" })), "`memory.size` must be a whole number, not text"),
        (with("memory", json!({ "size": -1 })), "`memory.size` must be a whole number, not this number"),
        (with("memory", json!({ "size": 4097 })), "--memory 4097 is not a multiple of 4096 bytes"),
        (with("memory", json!([])), "memory must be an object, not a list"),
        (
            with("cpus", json!({ "boot_vcpus": 4, "max_vcpus": 2 })),
            "`cpus.max_vcpus` must not be below boot_vcpus",
        ),
        (
            with("cpus", json!({ "boot_vcpus": 1, "max_vcpus": 1, "features": { "amx": true } })),
            "`cpus.features.amx` is not supported",
        ),
        (
            with("console", json!({ "mode": "Tty" })),
            "`console.mode` cannot be Tty; Off, File and Socket can be had",
        ),
        (
            with("serial", json!({ "mode": "Socket", "socket": "/s" })),
            "`serial.mode` cannot be Socket; Off, Null, Tty, Pty and File can be had",
        ),
        (
            with("serial", json!({ "mode": "File" })),
            "`serial.file` is missing: it is the path that output goes to",
        ),
        (with("platform", json!({ "uuid": "1" })), "`platform.uuid` is not supported"),
        (
            with("devices", json!([{ "path": "/x" }])),
            "`devices[0].path` does not end in the address of a PCI device",
        ),
        (
            with("devices", json!([{ "path": "/0000:01:00.0", "iommu": 1 }])),
            "`devices[0].iommu` must be true or false, not this number",
        ),
        (with("payload", json!({ "kernel": "/k", "firmware": "/f" })), "`payload.firmware` is not supported"),
        (json!({}), "`payload.kernel` is missing: it is the path of a bzImage or of a vmlinux"),
        (json!([]), "the request's body must be an object, not a list"),
    ] {
        let messages = parse(&config).unwrap_err();
        assert!(messages.iter().any(|said| said == message), "{message}\n{messages:?}");
    }
    let device = json!({ "path": "/sys/bus/pci/devices/0000:01:00.0", "id": "a" });
    let twice = parse(&with("devices", json!([device, device]))).unwrap_err();
    assert_eq!(twice, ["`devices[1].id` is `a`, as another device's is"]);
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let messages =
        parse(&json!({ "cpus": { "boot_vcpus": 0 }, "disks": [1], "fs": [1], "payload": {} })).unwrap_err();
    for part in ["payload.kernel", "--cpus 0", "disks", "fs"] {
        assert!(messages.iter().any(|message| message.contains(part)), "{part}: {messages:?}");
    }
}

#[test]
fn what_is_shown_can_be_created_again() {
    let mut config = with("devices", json!([{ "path": "/sys/bus/pci/devices/0000:01:00.0", "id": "nvme" }]));
    config["serial"] = json!({ "mode": "Pty" });
    config["devices"][0]["iommu"] = json!(true);
    let first = parse(&config).unwrap();
    let shown = first.to_json(None);
    let second = parse(&shown).unwrap();
    assert_eq!(second.to_json(None), shown);
    assert_eq!((second.ids, second.spec.vfio.confined()), (first.ids.clone(), first.spec.vfio.confined()));
    assert_eq!(first.to_json(Some(Path::new("/dev/pts/7")))["serial"]["file"], "/dev/pts/7");
}

#[test]
fn devices_come_and_go() {
    let address = |text: &str| text.parse::<PciAddress>().unwrap();
    let mut configuration = Configuration::new(MachineSpec {
        vfio: Request::at(&[address("01:00.0")]),
        ..MachineSpec::for_api()
    });
    assert_eq!(configuration.id_of(address("01:00.0")), Some("_vfio0"));
    assert_eq!(configuration.add(None, address("02:00.0")).unwrap(), "_vfio1");
    assert_eq!(configuration.device("_vfio1"), Some(DeviceName::Host(address("02:00.0"))));
    assert_eq!(configuration.device("0000:02:00.0"), Some(DeviceName::Host(address("02:00.0"))));
    assert_eq!(configuration.device("0000:03:00.0"), None);
    configuration.put_behind_a_port(address("02:00.0"));
    let ports: Vec<bool> = configuration.spec.vfio.devices.iter().map(|device| device.port).collect();
    assert_eq!(ports, [false, true]);
    assert!(configuration.add(Some("_vfio1".to_owned()), address("03:00.0")).is_err());
    assert!(configuration.add(None, address("02:00.0")).is_err());
    configuration.remove(&DeviceName::Host(address("01:00.0")));
    assert_eq!(configuration.spec.vfio.addresses(), [address("02:00.0")]);
    assert_eq!(configuration.add(None, address("01:00.0")).unwrap(), "_vfio0");
}

#[test]
fn virtio_devices_come_and_go() {
    let machine =
        json!({ "payload": { "kernel": "/k" }, "disks": [{ "path": "/d" }], "net": [{ "tap": "tap0" }] });
    let mut configuration = parse(&machine).unwrap();
    let mut plug = |(id, device): virtio::Described| configuration.plug(id, device);
    let disk = |body: Value| virtio::disk_of(body.to_string().as_bytes()).unwrap();
    let net = |body: Value| virtio::net_of(body.to_string().as_bytes()).unwrap();
    assert_eq!(plug(disk(json!({ "path": "/e" }))).unwrap(), "_disk1");
    assert_eq!(plug(disk(json!({ "path": "/f", "id": "data" }))).unwrap(), "data");
    for taken in ["data", "_disk0", "_disk1", "_net0"] {
        assert_eq!(plug(disk(json!({ "path": "/g", "id": taken }))).unwrap_err().status, 409, "{taken}");
    }
    let twice = plug(net(json!({ "tap": "tap0" }))).unwrap_err();
    assert_eq!((twice.status, twice.messages[0].as_str()), (400, "--net: the tap tap0 is given twice"));
    assert_eq!(plug(net(json!({ "tap": "tap1" }))).unwrap(), "_net1");
    let vsock = br#"{"cid":5,"socket":"/run/vm.vsock"}"#;
    assert_eq!(plug(virtio::vsock_of(vsock).unwrap()).unwrap(), "_vsock0");
    let second = plug(virtio::vsock_of(vsock).unwrap()).unwrap_err();
    assert_eq!(second.messages[0], "a machine cannot have two vsocks");
    let share = virtio::fs_of(br#"{"tag":"home","socket":"/run/home.sock"}"#).unwrap();
    assert_eq!(plug(share.clone()).unwrap(), "_fs0");
    assert_eq!(plug(share).unwrap_err().status, 400);

    let described = configuration.to_json(None);
    let ids = |list: &str| {
        described[list].as_array().unwrap().iter().map(|it| it["id"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(ids("disks"), [Value::Null, json!("_disk1"), json!("data")]);
    assert_eq!((ids("net"), ids("fs")), (vec![Value::Null, json!("_net1")], vec![json!("_fs0")]));
    assert_eq!((&described["vsock"]["id"], &described["vsock"]["cid"]), (&json!("_vsock0"), &json!(5)));
    let taps: Vec<_> = configuration.taps();
    assert_eq!(taps, [("_net0".to_owned(), "tap0"), ("_net1".to_owned(), "tap1")]);

    assert_eq!(configuration.device("data"), Some(DeviceName::Virtio("data".to_owned())));
    configuration.remove(&DeviceName::Virtio("data".to_owned()));
    assert_eq!((configuration.device("data"), configuration.no_device("data").status), (None, 404));
    assert_eq!((configuration.device("_disk0"), configuration.no_device("_disk0").status), (None, 500));
}

#[test]
fn vcpus_can_be_placed() {
    let machine = |affinity: Value| json!({ "payload": { "kernel": "/k" }, "cpus": { "boot_vcpus": 2, "affinity": affinity } });
    let affinity = json!([{ "vcpu": 1, "host_cpus": [0, 3] }]);
    let configuration = parse(&machine(affinity.clone())).unwrap();
    assert_eq!(configuration.spec.placement.vcpus, [vec![], vec![0, 3]]);
    assert_eq!(configuration.to_json(None)["cpus"]["affinity"], affinity);
    for (wrong, field) in [
        (json!([{ "vcpu": 2, "host_cpus": [0] }]), "`cpus.affinity[0].vcpu` must be"),
        (json!([{ "vcpu": 0, "host_cpus": [] }]), "`cpus.affinity[0].host_cpus` must be"),
        (json!([{ "vcpu": 0, "host_cpus": [-1] }]), "`cpus.affinity[0].host_cpus` must be"),
        (json!([{ "vcpu": 0, "host_cpus": [1], "node": 1 }]), "`cpus.affinity[0].node` is not supported"),
    ] {
        let refused = parse(&machine(wrong)).unwrap_err();
        assert!(refused[0].starts_with(field), "{refused:?}");
    }
}

#[test]
fn what_a_machine_starts_with_can_have_names() {
    let machine = json!({
        "payload": { "kernel": "/k" },
        "disks": [{ "path": "/d", "id": "root" }, { "path": "/e" }],
        "net": [{ "tap": "tap0", "id": "uplink" }],
    });
    let mut configuration = parse(&machine).unwrap();
    let names: Vec<String> = configuration.fixed_names().collect();
    assert_eq!(names, ["root", "_disk1", "uplink"]);
    let described = configuration.to_json(None);
    assert_eq!(
        (&described["disks"][0]["id"], &described["net"][0]["id"]),
        (&json!("root"), &json!("uplink"))
    );
    assert_eq!(described["disks"][1].get("id"), None);
    let disk = virtio::disk_of(br#"{"path":"/f","id":"uplink"}"#).unwrap();
    assert_eq!(configuration.plug(disk.0, disk.1).unwrap_err().status, 409);
    let mut twice = machine;
    twice["net"][0]["id"] = json!("_disk1");
    let refused = parse(&twice).unwrap_err();
    assert_eq!(refused, ["`disks` or net: two devices are called `_disk1`"]);
}

/// What `ch-remote add-disk`, `add-net`, `add-fs` and `add-vsock` of its releases send when nothing else is said.
#[test]
fn what_others_say_of_themselves_is_understood() {
    let common = r#""id":null,"pci_segment":0,"pci_device_id":null"#;
    let disk = format!(
        r#"{{{common},"path":"/d","readonly":false,"direct":false,"num_queues":1,"queue_size":128,"vhost_user":false,
        "vhost_socket":null,"rate_limit_group":null,"rate_limiter_config":null,"disable_io_uring":false,"disable_aio":false,
        "serial":null,"queue_affinity":null,"backing_files":false,"sparse":true,"image_type":"Unknown","lock_granularity":"ByteRange"}}"#
    );
    virtio::disk_of(disk.as_bytes()).unwrap();
    let net = format!(
        r#"{{{common},"tap":"t0","ip":null,"mask":null,"mac":"2e:00:00:00:00:01","host_mac":null,"mtu":null,"num_queues":2,
        "queue_size":256,"vhost_user":false,"vhost_socket":null,"vhost_mode":"Client","fds":null,"rate_limiter_config":null,
        "offload_tso":true,"offload_ufo":true,"offload_csum":true}}"#
    );
    virtio::net_of(net.as_bytes()).unwrap();
    let fs = format!(r#"{{{common},"tag":"t","socket":"/s","num_queues":1,"queue_size":1024}}"#);
    virtio::fs_of(fs.as_bytes()).unwrap();
    virtio::vsock_of(format!(r#"{{{common},"cid":3,"socket":"/s"}}"#).as_bytes()).unwrap();
    for (field, value) in
        [("queue_size", "100"), ("queue_size", "65536"), ("lock_granularity", "\"None\""), ("id", "\"\"")]
    {
        let body = format!(r#"{{"path":"/d","{field}":{value}}}"#);
        let refused = virtio::disk_of(body.as_bytes()).unwrap_err();
        assert!(refused.messages[0].starts_with(&format!("`{field}`")), "{:?}", refused.messages);
    }
}

/// Any JSON, with names that mean something more often than not.
fn any_json() -> impl Strategy<Value = Value> {
    let name = prop_oneof![
        prop::sample::select(vec![
            "cpus",
            "memory",
            "payload",
            "serial",
            "console",
            "devices",
            "platform",
            "size",
            "boot_vcpus",
            "max_vcpus",
            "kernel",
            "mode",
            "file",
            "path",
            "id",
            "features",
            "pci_segment",
        ])
        .prop_map(str::to_owned),
        ".{0,8}",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop::sample::select(vec!["Off", "Tty", "File", "/k", "0000:01:00.0"]).prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 64, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(name.clone(), inner, 0..8)
                .prop_map(|fields| fields.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    })
}

proptest! {
    /// Whatever is asked for is taken or refused with a reason; what is taken comes back out.
    #[test]
    fn any_json_is_taken_or_refused(mut config in any_json(), bootable: bool) {
        if let (true, Some(config)) = (bootable, config.as_object_mut()) {
            config.insert("payload".to_owned(), json!({ "kernel": "/k" }));
        }
        match parse(&config) {
            Ok(configuration) => {
                let shown = configuration.to_json(None);
                prop_assert_eq!(parse(&shown).unwrap().to_json(None), shown);
            }
            Err(messages) => prop_assert!(!messages.is_empty()),
        }
    }

    #[test]
    fn any_bytes_are_taken_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Configuration::parse(&bytes, &MachineSpec::for_api()).is_err());
        let _ = device_of(&bytes);
    }
}

#[test]
fn deep_nesting_is_refused_and_not_followed() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(Configuration::parse(deep.as_bytes(), &MachineSpec::for_api()).is_err());
}
