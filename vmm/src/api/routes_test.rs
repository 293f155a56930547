use std::os::unix::net::UnixStream;
use std::thread;

use super::*;
use crate::machine::signals::Signals;
use crate::machine::{Event, Observer, Outcome};
use crate::spec::MachineSpec;

/// A process without a machine, whose main thread waits for requests.
struct Bench {
    manager: Arc<Manager>,
    main: thread::JoinHandle<Outcome>,
}

struct Deaf;

impl Observer for Deaf {
    fn notify(&self, _: &Event) {}
}

impl Bench {
    fn new() -> Self {
        let manager = Manager::new(None, MachineSpec::for_api()).unwrap();
        let serving = manager.clone();
        let main = thread::spawn(move || {
            let mut signals = Signals::catch().unwrap();
            serving.serve(None, &mut signals, &|_| Arc::new(Deaf)).unwrap()
        });
        Self { manager, main }
    }

    fn ask(&self, method: Method, path: &str, body: &str) -> (u16, Value) {
        let request = Request { method, path: path.to_owned(), body: body.into(), keep_alive: true };
        let response = handler(self.manager.clone())(&request);
        assert_eq!(response.status == 204, response.body.is_empty());
        (response.status, serde_json::from_slice(&response.body).unwrap_or_default())
    }

    fn get(&self, call: &str) -> (u16, Value) {
        self.ask(Method::Get, &format!("/api/v1/{call}"), "")
    }

    fn put(&self, call: &str, body: &str) -> (u16, Value) {
        self.ask(Method::Put, &format!("/api/v1/{call}"), body)
    }
}

impl Bench {
    fn end(self) {
        assert_eq!(self.put("vmm.shutdown", "").0, 204);
        assert_eq!(self.main.join().unwrap(), Outcome::Stopped("stopped by request"));
    }
}

#[test]
fn a_ping_tells_who_is_there() {
    let bench = Bench::new();
    let (status, body) = bench.get("vmm.ping");
    assert_eq!((status, &body["pid"]), (200, &json!(std::process::id())));
    assert_eq!(body["version"], env!("CARGO_PKG_VERSION"));
    bench.end();
}

#[test]
fn a_machine_is_created_changed_and_deleted() {
    let bench = Bench::new();
    for call in ["vm.boot", "vm.pause", "vm.shutdown", "vm.reboot", "vm.nmi", "vm.power-button"] {
        assert_eq!(bench.put(call, "").0, 404, "{call}");
    }
    assert_eq!((bench.get("vm.info").0, bench.get("vm.counters").0), (404, 404));
    assert_eq!(bench.put("vm.delete", "").0, 204, "there is nothing to delete, which is what is wanted");

    let config = r#"{"payload":{"kernel":"/no/such/kernel"},"memory":{"size":268435456}}"#;
    assert_eq!(bench.put("vm.create", config).0, 204);
    let (status, body) = bench.put("vm.create", config);
    assert_eq!((status, &body[0]), (500, &json!("a machine has been created already")));
    let (status, info) = bench.get("vm.info");
    assert_eq!(
        (status, &info["state"], &info["memory_actual_size"]),
        (200, &json!("Created"), &json!(268435456))
    );
    assert_eq!(bench.put("vm.pause", "").1[0], "the machine is not running");
    assert_eq!(bench.put("vm.shutdown", "").0, 500);

    let device = r#"{"path":"/sys/bus/pci/devices/0000:01:00.0","id":"nvme"}"#;
    assert_eq!(bench.put("vm.add-device", device).0, 204);
    assert_eq!(bench.put("vm.add-device", device).0, 409);
    assert_eq!(bench.get("vm.info").1["config"]["devices"][0]["id"], "nvme");
    assert_eq!(bench.put("vm.remove-device", r#"{"id":"other"}"#).0, 404);
    assert_eq!(bench.put("vm.remove-device", r#"{"id":"nvme"}"#).0, 204);
    assert!(bench.get("vm.info").1["config"].get("devices").is_none());

    assert_eq!(bench.put("vm.add-disk", r#"{"path":"/d","id":"data"}"#).0, 204);
    assert_eq!(bench.put("vm.add-disk", r#"{"path":"/e","id":"data"}"#).0, 409);
    assert_eq!(bench.get("vm.info").1["config"]["disks"][0]["id"], "data");
    assert_eq!(bench.put("vm.remove-device", r#"{"id":"data"}"#).0, 204);
    assert!(bench.get("vm.info").1["config"].get("disks").is_none());

    assert_eq!(bench.put("vm.coredump", r#"{"destination_url":"file:///x"}"#).0, 500);

    assert_eq!(bench.put("vm.delete", "").0, 204);
    assert_eq!(bench.get("vm.info").0, 404);
    assert_eq!(bench.put("vm.add-disk", r#"{"path":"/d"}"#).0, 404);
    bench.end();
}

#[test]
fn a_core_dump_goes_to_an_absolute_path() {
    let bench = Bench::new();
    for url in ["", "/x", "file://x", "file://", "file:/x", "http://host/x", "FILE:///x"] {
        let (status, body) = bench.put("vm.coredump", &json!({ "destination_url": url }).to_string());
        assert_eq!(status, 400, "{url}");
        assert!(body[0].as_str().unwrap().starts_with("`destination_url` must be file://"), "{body}");
    }
    assert_eq!(bench.put("vm.coredump", "{}").0, 400);
    assert_eq!(bench.put("vm.coredump", r#"{"destination_url":"file:///x","also":1}"#).0, 400);
    let (status, body) = bench.put("vm.coredump", r#"{"destination_url":"file:///x"}"#);
    assert_eq!((status, &body[0]), (404, &json!("no machine has been created")));
    bench.end();
}

#[test]
fn a_boot_that_fails_says_why_and_can_be_tried_again() {
    let bench = Bench::new();
    bench.put("vm.create", r#"{"payload":{"kernel":"/no/such/kernel"}}"#);
    for _ in 0..2 {
        let (status, body) = bench.put("vm.boot", "");
        let messages: Vec<&str> = body.as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert_eq!(status, 500);
        assert!(messages.contains(&"cannot use kernel /no/such/kernel"), "{messages:?}");
        assert!(messages.iter().any(|message| message.starts_with("help: ")), "{messages:?}");
    }
    assert_eq!(bench.get("vm.info").1["state"], "Created");
    bench.end();
}

#[test]
fn what_is_unknown_and_what_is_not_to_be_had_are_told_apart() {
    let bench = Bench::new();
    for (call, _) in MISSING {
        let (status, body) = bench.put(call, "{}");
        assert_eq!(status, 501, "{call}");
        assert!(body[0].as_str().unwrap().starts_with(call), "{body}");
    }
    for path in ["/", "/api/v1/", "/api/v1/vm.fly", "/api/v2/vm.info", "/vmm/v1/", "/api/v1/vm.info/"] {
        let (status, body) = bench.ask(Method::Get, path, "");
        assert_eq!((status, &body[0]), (404, &json!(format!("there is no {path}"))));
    }
    bench.end();
}

#[test]
fn a_balloon_has_its_size_and_no_device_beside_it() {
    let bench = Bench::new();
    let config = r#"{"payload":{"kernel":"/k"},"memory":{"size":268435456},"balloon":{"size":4096,"deflate_on_oom":true}}"#;
    assert_eq!(bench.put("vm.create", config).0, 204);
    let size = || bench.get("vm.info").1["config"]["balloon"]["size"].as_u64();
    assert_eq!(size(), Some(4096));
    assert_eq!(bench.put("vm.resize", r#"{"desired_balloon":8192,"desired_ram":268435456}"#).0, 204);
    assert_eq!(size(), Some(8192));
    for wrong in ["4095", "268439552", "18446744073709551615"] {
        let (status, body) = bench.put("vm.resize", &format!("{{\"desired_balloon\":{wrong}}}"));
        assert_eq!(status, 400, "{body}");
    }
    assert_eq!(size(), Some(8192));
    let (status, body) = bench.put("vm.add-device", r#"{"path":"/sys/bus/pci/devices/0000:01:00.0"}"#);
    let why = "a balloon and a passed-through device (0000:01:00.0) cannot be had together";
    assert_eq!((status, &body[0]), (400, &json!(why)));
    assert!(bench.get("vm.info").1["config"].get("devices").is_none());
    assert_eq!(bench.put("vm.delete", "").0, 204);

    let config = r#"{"payload":{"kernel":"/k"},"balloon":{"size":0},"devices":[{"path":"/sys/bus/pci/devices/0000:01:00.0"}]}"#;
    let (status, body) = bench.put("vm.create", config);
    assert_eq!((status, &body[0]), (400, &json!(why)));
    assert_eq!(bench.put("vm.create", r#"{"payload":{"kernel":"/k"},"balloon":{}}"#).0, 400);
    bench.end();
}

#[test]
fn memory_comes_and_goes_as_far_as_there_is_room() {
    let bench = Bench::new();
    let memory = r#""size":268435456,"hotplug_method":"VirtioMem","hotplug_size":134217728"#;
    let config = |more: &str| format!("{{\"payload\":{{\"kernel\":\"/k\"}},\"memory\":{{{memory}{more}}}}}");
    for wrong in [",\"hotplugged_size\":134217729", ",\"hotplugged_size\":268435456", ",\"hugepages\":true"] {
        assert_eq!(bench.put("vm.create", &config(wrong)).0, 400, "{wrong}");
    }
    assert_eq!(bench.put("vm.create", &config("")).0, 204);
    let plugged = || bench.get("vm.info").1["config"]["memory"]["hotplugged_size"].as_u64();
    assert_eq!(plugged(), Some(0));
    assert_eq!(bench.put("vm.resize", r#"{"desired_ram":335544320}"#).0, 204);
    assert_eq!(plugged(), Some(67_108_864));
    for wrong in ["268435455", "335544321", "402653185", "402653186"] {
        let (status, body) = bench.put("vm.resize", &format!("{{\"desired_ram\":{wrong}}}"));
        assert_eq!(status, 400, "{body}");
    }
    assert_eq!(bench.put("vm.resize", r#"{"desired_ram":268435456}"#).0, 204);
    assert_eq!(plugged(), Some(0));
    bench.end();
}

#[test]
fn a_machine_can_be_resized_to_what_it_is() {
    let bench = Bench::new();
    assert_eq!(bench.put("vm.resize", "{}").0, 404);
    bench.put(
        "vm.create",
        r#"{"payload":{"kernel":"/k"},"cpus":{"boot_vcpus":2},"memory":{"size":268435456}}"#,
    );
    let same = r#"{"desired_vcpus":2,"desired_ram":268435456,"desired_balloon":null}"#;
    for same in [same, "{}", r#"{"desired_balloon":0}"#] {
        assert_eq!(bench.put("vm.resize", same).0, 204, "{same}");
    }
    for (other, has) in [
        (r#"{"desired_vcpus":3}"#, "desired_vcpus cannot be 3, the machine has 2: "),
        (r#"{"desired_vcpus":2,"desired_ram":1}"#, "desired_ram cannot be 1, the machine has 268435456: "),
        (r#"{"desired_ram":268439552}"#, "desired_ram cannot be 268439552, the machine has 268435456: "),
        (r#"{"desired_balloon":4096}"#, "desired_balloon cannot be 4096, the machine has no balloon"),
    ] {
        let (status, body) = bench.put("vm.resize", other);
        assert_eq!(status, 501, "{other}");
        assert!(body[0].as_str().unwrap().starts_with(has), "{body}");
        assert!(body[1].as_str().unwrap().starts_with("help: create it anew"), "{body}");
    }
    for wrong in [r#"{"desired_vcpus":-1}"#, r#"{"desired_ram":"1G"}"#, r#"{"desired_cpus":2}"#] {
        assert_eq!(bench.put("vm.resize", wrong).0, 400, "{wrong}");
    }
    bench.end();
}

#[test]
fn each_call_takes_its_method() {
    let bench = Bench::new();
    for (call, method, _) in CALLS {
        let other = if method == Method::Get { Method::Put } else { Method::Get };
        for wrong in [other, Method::Other] {
            assert_eq!(bench.ask(wrong, &format!("/api/v1/{call}"), "").0, 400, "{call}");
        }
    }
    assert_eq!(bench.ask(Method::Put, "/vmm/v1/state", "").0, 400);
    bench.end();
}

#[test]
fn bodies_are_checked() {
    let bench = Bench::new();
    for (call, body) in [
        ("vm.create", ""),
        ("vm.create", "{"),
        ("vm.create", "[]"),
        ("vm.create", r#"{"payload":{"kernel":"/k"},"fs":[{"tag":"t"}]}"#),
        ("vm.add-device", "{}"),
        ("vm.add-device", r#"{"path":"/0000:01:00.0","fd":7}"#),
        ("vm.add-disk", "{}"),
        ("vm.add-disk", r#"{"path":"/d","id":""}"#),
        ("vm.add-disk", r#"{"path":"/d","vhost_user":true}"#),
        ("vm.add-net", r#"{"mac":"02:00:5e:10:00:01"}"#),
        ("vm.add-fs", r#"{"tag":"home"}"#),
        ("vm.add-vsock", r#"{"cid":3}"#),
        ("vm.remove-device", r#"{"id":7}"#),
        ("vm.remove-device", r#"{"id":"a","force":true}"#),
    ] {
        let (status, messages) = bench.put(call, body);
        assert_eq!(status, 400, "{call} {body}");
        assert!(messages.as_array().is_some_and(|messages| !messages.is_empty()), "{call} {body}");
    }
    bench.end();
}

#[test]
fn what_only_we_have_stands_beside_it() {
    let bench = Bench::new();
    let own = |path: &str| bench.ask(Method::Get, &format!("/vmm/v1/{path}"), "");
    assert_eq!(own("state"), (200, json!({ "state": "None", "progress": null })));
    assert_eq!(own("boot-phases"), (200, json!([])));
    assert_eq!(own("pin-report").0, 404);
    assert_eq!(own("metrics").0, 200);
    assert_eq!(own("preflight").0, 404);
    bench.put("vm.create", r#"{"payload":{"kernel":"/k"}}"#);
    assert_eq!(own("state").1["state"], "Created");
    // Asked as often as one likes, nothing is booted by it.
    for _ in 0..2 {
        let (status, preflight) = own("preflight");
        assert_eq!((status, &preflight["ready"]), (200, &json!(false)));
        let problems = preflight["problems"].to_string();
        assert!(problems.contains("cannot use kernel /k") && problems.contains("help: "), "{problems}");
    }
    assert_eq!(own("state").1["state"], "Created");
    bench.end();
}

#[test]
fn the_last_answer_arrives_before_the_process_ends() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("api.sock");
    let listener = crate::api::ApiListener::open(&crate::api::ApiSocket::Path(path.clone())).unwrap();
    let bench = Bench::new();
    let server = crate::api::start(&listener, &bench.manager).unwrap();
    let mut client = UnixStream::connect(&path).unwrap();
    std::io::Write::write_all(&mut client, b"PUT /api/v1/vmm.shutdown HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(bench.main.join().unwrap(), Outcome::Stopped("stopped by request"));
    drop(server);
    let mut response = String::new();
    std::io::Read::read_to_string(&mut client, &mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 204 \r\n"), "{response:?}");
}
