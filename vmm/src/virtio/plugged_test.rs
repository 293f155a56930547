use std::path::Path;

use devices::disk::DiskOptions;

use super::*;
use crate::virtio::vsock::VsockServer;

fn disk(path: &Path) -> PluggedSpec {
    let options = DiskOptions { format: Some(devices::disk::Format::Raw), ..DiskOptions::new(path) };
    PluggedSpec { id: "data".to_owned(), device: Pluggable::Disk(DiskSpec::new(options)) }
}

fn vsock(socket: &Path) -> PluggedSpec {
    let vsock = VsockSpec { cid: 5, server: VsockServer::Bridge(socket.into()) };
    PluggedSpec { id: "sockets".to_owned(), device: Pluggable::Vsock(vsock) }
}

fn wrong(fixed: &VirtioSpec, plugged: &[PluggedSpec]) -> Vec<String> {
    let mut problems = Problems::default();
    validate(fixed, plugged, &mut problems);
    problems.0.iter().map(|problem| problem.what.to_string()).collect()
}

#[test]
fn what_a_device_has_of_the_host_goes_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("disk.img");
    std::fs::write(&image, [0; 1 << 16]).unwrap();
    let first = disk(&image).open(1).unwrap();
    assert!(first.disk.is_some());
    let Err(locked) = disk(&image).open(1) else { panic!("two writers have one image") };
    assert_eq!(locked.exit_code(), Class::Host as u8, "{locked:?}");
    drop(first);
    disk(&image).open(1).unwrap();

    let socket = directory.path().join("vsock");
    let device = vsock(&socket).open(1).unwrap();
    assert!(socket.exists());
    drop(device);
    assert!(!socket.exists());
}

#[test]
fn what_makes_no_sense_is_not_opened() {
    let directory = tempfile::tempdir().unwrap();
    let Err(missing) = disk(&directory.path().join("none")).open(1) else { panic!("there is no image") };
    assert_eq!(missing.0.len(), 1);
    let share = FsSpec { socket: "/nowhere".into(), tag: String::new(), queues: 1, queue_size: 1024 };
    let share = PluggedSpec { id: "home".to_owned(), device: Pluggable::Share(share) };
    let Err(tag) = share.open(1) else { panic!("it has no tag") };
    assert_eq!(tag.exit_code(), Class::Usage as u8, "{tag:?}");
}

#[test]
fn all_devices_are_looked_at_together() {
    let [first, second] = ["/run/a.vsock", "/run/b.vsock"].map(|path| vsock(Path::new(path)));
    assert_eq!(wrong(&VirtioSpec::default(), std::slice::from_ref(&first)), [""; 0]);
    assert_eq!(wrong(&VirtioSpec::default(), &[first, second.clone()]), ["a machine cannot have two vsocks"]);
    let fixed = VirtioSpec {
        vsock: Some(VsockSpec { cid: 4, server: VsockServer::Kernel }),
        ..VirtioSpec::default()
    };
    assert_eq!(wrong(&fixed, &[second]), ["a machine cannot have two vsocks"]);
}
