use std::os::fd::IntoRawFd;
use std::os::unix::fs::symlink;

use super::*;

fn refused(fd: u32) -> String {
    let error = device(fd).unwrap_err();
    assert_eq!(error.to_string().replace(CDEV, IOMMU), iommufd(fd).unwrap_err().to_string());
    error.to_string()
}

fn open(path: &str) -> u32 {
    File::options().read(true).write(true).open(path).unwrap().into_raw_fd() as u32
}

#[test]
fn what_is_no_device_of_vfio_is_named_and_left_open() {
    let null = open("/dev/null");
    assert_eq!(
        refused(null),
        format!("file descriptor {null} is /dev/null, not a node in /dev/vfio/devices")
    );
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let plain = open(path);
    assert_eq!(refused(plain), format!("file descriptor {plain} is {path}, not a node in /dev/vfio/devices"));
    for fd in [null, plain] {
        assert!(fs::metadata(format!("/proc/self/fd/{fd}")).is_ok(), "{fd} was closed");
        // SAFETY: opened above, and not taken over.
        drop(unsafe { OwnedFd::from_raw_fd(fd as RawFd) });
    }
}

#[test]
fn numbers_that_stand_for_nothing_are_refused() {
    for fd in [1_000_000, i32::MAX as u32, u32::MAX] {
        assert_eq!(refused(fd), format!("file descriptor {fd} is not open"));
    }
    assert_eq!(refused(0), "file descriptor 0 is a standard one");
}

#[test]
fn a_node_is_looked_up_by_its_device_number() {
    let root = tempfile::tempdir().unwrap();
    let path = |path: &str| root.path().join(path);
    let cdev = "devices/pci0000:00/0000:00:01.0/vfio-dev/vfio7";
    for directory in [cdev, "class/vfio-dev", "dev/char"] {
        fs::create_dir_all(path(directory)).unwrap();
    }
    symlink("../../../0000:00:01.0", path(&format!("{cdev}/device"))).unwrap();
    symlink("../../../../../class/vfio-dev", path(&format!("{cdev}/subsystem"))).unwrap();
    // /dev/null stands in for the node.
    symlink(format!("../../{cdev}"), path("dev/char/1:3")).unwrap();
    let null = File::options().read(true).open("/dev/null").unwrap();
    let fd = null.as_raw_fd() as u32;
    let node = Node::look_at(fd, root.path()).unwrap();
    assert_eq!((node.name.as_deref(), node.subsystem.as_deref()), (Some("vfio7"), Some("vfio-dev")));
    assert!(node.device.as_ref().unwrap().ends_with("0000:00:01.0"));
    assert_eq!(
        node.take().unwrap_err().to_string(),
        format!("file descriptor {fd} (/dev/null) is not open for reading and writing")
    );
}

#[test]
fn what_is_taken_over_is_closed_with_what_stands_for_it() {
    let fd = open("/dev/zero");
    let file = Node::look_at(fd, Path::new("/sys")).unwrap().take().unwrap();
    let closed = |fd: u32| {
        fs::read_link(format!("/proc/self/fd/{fd}")).map_or(true, |to| to != Path::new("/dev/zero"))
    };
    assert!(closed(fd));
    // SAFETY: F_GETFD takes no argument.
    let flags = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFD) };
    assert_ne!(flags & libc::FD_CLOEXEC, 0, "children inherit it");
    let duplicate = file.as_raw_fd() as u32;
    drop(file);
    assert!(closed(duplicate));
}
