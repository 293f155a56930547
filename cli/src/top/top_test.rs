use std::os::unix::net::UnixListener;
use std::time::Instant;

use serde_json::{Value, json};

use super::page::render;
use super::sample::{Machine, Sample};
use super::*;

fn sample(taken: Instant, counters: Value) -> Sample {
    Sample {
        taken,
        ping: json!({ "pid": 4711 }),
        state: json!({ "state": "Running" }),
        info: json!({
            "memory_actual_size": 4_u64 << 30,
            "config": {
                "disks": [{ "path": "/images/root.img" }],
                "net": [{ "tap": "tap0" }],
                "devices": [{ "id": "gpu", "path": "/sys/bus/pci/devices/0000:01:00.0" }],
            },
        }),
        counters,
    }
}

/// A machine that was asked twice, two seconds apart.
fn machine(before: Value, now: Value) -> Machine {
    let begun = Instant::now();
    Machine {
        socket: "/run/vmm/web.sock".into(),
        before: Some(sample(begun, before)),
        now: Ok(sample(begun + Duration::from_secs(2), now)),
    }
}

fn counters(times: u64) -> Value {
    json!({
        "vcpu10": { "port_exits": 0, "mmio_exits": 0, "cpu_time_us": 20_000 * times },
        "vcpu2": { "port_exits": 240 * times, "mmio_exits": 2000 * times, "cpu_time_us": 1_960_000 * times },
        "_disk0": { "read_bytes": 25165824 * times, "read_ops": 600 * times, "write_bytes": 0, "write_ops": 0, "other_ops": 4 },
        "_net0": { "rx_bytes": 3000 * times, "rx_frames": 2 * times, "tx_bytes": 1024 * times, "tx_frames": times },
        "gpu": { "interrupts": 8000 * times },
        "memory": { "allocated_bytes": 3_u64 << 29 },
    })
}

#[test]
fn a_page_shows_what_has_changed() {
    let page = render(&[machine(counters(1), counters(2))], 200).join("\n") + "\n";
    assert_eq!(page, include_str!("page.txt"));
}

#[test]
fn machines_that_do_not_run_and_those_that_do_not_answer_have_a_line() {
    let stopped = Sample { state: json!({ "state": "Created" }), ..sample(Instant::now(), Value::Null) };
    let stopped = Machine { socket: "/run/vmm/db.sock".into(), now: Ok(stopped), before: None };
    let dead = Machine {
        socket: "/run/vmm/old.sock".into(),
        now: Err("no machine answers at /run/vmm/old.sock".to_owned()),
        before: None,
    };
    let lines = render(&[stopped, dead], 200);
    assert!(lines[1].starts_with("db       Created") && lines[1].contains("4 GiB"), "{lines:?}");
    assert!(lines[2].starts_with("old      no machine answers"), "{lines:?}");
    assert_eq!(lines.len(), 3);
}

#[test]
fn counters_that_start_anew_count_from_there() {
    let machine = machine(counters(5), counters(1));
    assert_eq!(machine.rate("gpu", "interrupts"), 4000.0);
    assert_eq!(machine.rate("gpu", "nothing"), 0.0);
}

#[test]
fn the_busiest_vcpus_of_many_are_shown() {
    let many = |times: u64| {
        let vcpu = |index: u64| (format!("vcpu{index}"), json!({ "cpu_time_us": index * 1000 * times }));
        (0..20).map(vcpu).collect::<serde_json::Map<String, Value>>().into()
    };
    let lines = render(&[machine(many(1), many(2))], 200);
    let shown: Vec<&str> = lines[2..10].iter().map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(shown, ["vcpu12", "vcpu13", "vcpu14", "vcpu15", "vcpu16", "vcpu17", "vcpu18", "vcpu19"]);
    assert_eq!(lines[10].trim(), "and 12 vCPUs that do less");
}

#[test]
fn lines_fit_and_nothing_in_them_steers_the_terminal() {
    let mut evil = machine(counters(1), counters(2));
    if let Ok(sample) = &mut evil.now {
        sample.state = json!({ "state": "\u{1b}[2JRunning\u{9b}" });
        sample.ping = json!([1]);
        sample.info = json!({ "config": { "disks": 3, "devices": [null, { "id": ["gpu"] }] } });
    }
    for columns in [0, 7, 40, 200] {
        let lines = render(std::slice::from_ref(&evil), columns);
        assert!(lines.iter().all(|line| line.chars().count() <= columns && !line.contains(char::is_control)));
    }
}

#[test]
fn sockets_are_found() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("file.sock"), "").unwrap();
    let _listeners =
        ["b.sock", "a.sock"].map(|name| UnixListener::bind(directory.path().join(name)).unwrap());
    let found = sockets(directory.path());
    assert_eq!(found, ["a.sock", "b.sock"].map(|name| directory.path().join(name)));
    assert!(sockets(&directory.path().join("none")).is_empty());
}

#[test]
fn intervals_are_long_enough() {
    assert_eq!(interval("500ms").unwrap(), Duration::from_millis(500));
    assert!(["0", "1ms", "soon", ""].iter().all(|text| interval(text).unwrap_err().exit_code() == 2));
}
