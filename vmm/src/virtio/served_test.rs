use super::*;
use crate::virtio::fs::FsSpec;

#[test]
fn everything_wrong_is_found_before_daemons_are_asked() {
    let disk = |socket: &str, queues| ServedDisk { socket: socket.into(), queues };
    let net = |socket: &str, mtu| ServedNet { socket: socket.into(), mac: None, mtu };
    let share =
        |socket: &str| FsSpec { socket: socket.into(), tag: "t".to_owned(), queues: 1, queue_size: 64 };
    let said = |spec: &VirtioSpec| -> Vec<String> {
        let mut problems = Problems::default();
        validate(spec, &mut problems);
        problems.0.iter().map(|problem| problem.what.to_string()).collect()
    };
    let odd = VirtioSpec {
        served_disks: vec![disk("/a", 0), disk("/b", 65)],
        served_nets: vec![net("/a", Some(67))],
        shares: vec![share("/b"), share("/c")],
        ..VirtioSpec::default()
    };
    let expected = [
        "--disk vhost-user=/a: a disk cannot have 0 queues, but 1 to 64",
        "--disk vhost-user=/b: a disk cannot have 65 queues, but 1 to 64",
        "--net vhost-user=/a: an MTU of 67 is not 68 to 65521",
        "the socket /a is given twice",
        "the socket /b is given twice",
    ];
    assert_eq!(said(&odd), expected);
    let good = VirtioSpec {
        served_disks: vec![disk("/a", 64)],
        served_nets: vec![net("/b", Some(65521)), net("/c", None)],
        shares: vec![share("/d")],
        ..VirtioSpec::default()
    };
    assert_eq!(said(&good), [""; 0]);
    assert_eq!(good.count(), 4);
}
