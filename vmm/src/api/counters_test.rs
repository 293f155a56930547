use devices::virtio::blk::DiskCounts;
use serde_json::json;

use super::*;
use crate::hypervisor::exits::ExitCounts;
use crate::spec::MachineSpec;
use crate::virtio::net::{NetServer, NetSpec, TapSource};

fn configuration(taps: &[&str]) -> Configuration {
    let net = |tap: &&str| NetSpec {
        id: None,
        tap: TapSource::Named { name: (*tap).to_owned(), create: false },
        mac: None,
        mtu: None,
        queues: None,
        offloads: true,
        server: NetServer::Usual,
    };
    let mut spec = MachineSpec::for_api();
    spec.virtio.nets = taps.iter().map(net).collect();
    Configuration::new(spec)
}

#[test]
fn each_part_has_its_counters() {
    let disk = DiskCounts {
        reads: 2,
        read_bytes: 8192,
        writes: 1,
        written_bytes: 512,
        others: 3,
        ..DiskCounts::default()
    };
    let exits = ExitCounts { port: 7, ..ExitCounts::default() };
    let counters = Counters {
        exits: vec![exits],
        threads: vec![0],
        disks: vec![("_disk0".to_owned(), disk)],
        allocated: 1 << 20,
    };
    let overview =
        Overview { configuration: configuration(&["no-such-tap0"]), info: None, starting: false, pty: None };
    let json = json_of(parts(&counters, &overview));
    assert_eq!((&json["vcpu0"]["port_exits"], &json["vcpu0"]["cpu_time_us"]), (&json!(7), &json!(0)));
    let disk =
        json!({ "read_bytes": 8192, "read_ops": 2, "write_bytes": 512, "write_ops": 1, "other_ops": 3 });
    assert_eq!(json["_disk0"], disk);
    assert_eq!(json["_net0"], json!({ "rx_bytes": 0, "rx_frames": 0, "tx_bytes": 0, "tx_frames": 0 }));
    assert_eq!(json["memory"], json!({ "allocated_bytes": 1 << 20 }));
}

#[test]
fn what_the_tap_receives_the_guest_has_sent() {
    let sys = tempfile::tempdir().unwrap();
    let statistics = sys.path().join("tap0/statistics");
    fs::create_dir_all(&statistics).unwrap();
    for (name, value) in
        [("rx_bytes", "10\n"), ("rx_packets", "1\n"), ("tx_bytes", "20\n"), ("tx_packets", "x\n")]
    {
        fs::write(statistics.join(name), value).unwrap();
    }
    let parts = nets(&configuration(&["tap0"]), sys.path());
    assert_eq!(
        json_of(parts)["_net0"],
        json!({ "tx_bytes": 10, "tx_frames": 1, "rx_bytes": 20, "rx_frames": 0 })
    );
}

#[test]
fn a_thread_has_its_time() {
    assert_eq!(ticks("7 (a) b) c) S 1 2 3 4 5 6 7 8 9 10 100 23 0 0"), Some(123));
    for text in
        ["", "7 (x", "7 (x) S 1", "7 (x) S 1 2 3 4 5 6 7 8 9 10 x 23", "7 (x) S 1 2 3 4 5 6 7 8 9 10 -1 23"]
    {
        assert_eq!(ticks(text), None, "{text}");
    }
    assert!(cpu_time(rustix::thread::gettid().as_raw_nonzero().get()).is_some());
    assert_eq!(cpu_time(0), None);
}
