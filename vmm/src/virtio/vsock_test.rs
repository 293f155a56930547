use super::*;

fn wrong(vsock: VsockSpec) -> Vec<String> {
    let mut problems = Problems::default();
    vsock.validate(&mut problems);
    problems.0.iter().map(|problem| problem.what.to_string()).collect()
}

#[test]
fn a_vsock_has_the_address_of_a_guest_and_a_path_with_room_for_a_port() {
    let socket = |length| VsockServer::Bridge("x".repeat(length).into());
    for cid in [3, u32::MAX - 1] {
        for server in [VsockServer::Kernel, socket(96)] {
            assert!(wrong(VsockSpec { cid, server }).is_empty());
        }
    }
    for cid in [0, 2, u32::MAX] {
        let said = wrong(VsockSpec { cid, server: socket(1) });
        assert_eq!(said, [format!("--vsock cid={cid} cannot be a guest's address")]);
    }
    assert_eq!(wrong(VsockSpec { cid: 3, server: socket(97) }).len(), 1);
}

#[test]
fn a_vsock_s_socket_goes_with_its_device() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("vsock");
    let spec = VsockSpec { cid: 3, server: VsockServer::Bridge(socket.clone()) };
    let mut problems = Problems::default();
    let device = spec.open(&mut problems).unwrap();
    assert_eq!((problems.0.len(), socket.exists()), (0, true));
    assert!(spec.open(&mut problems).is_none());
    assert_eq!(problems.0.len(), 1, "{problems:?}");
    drop(device);
    assert!(!socket.exists());
}
