use std::os::unix::fs::symlink;

use super::*;
use crate::sysfs::tests::Fixture;

#[test]
fn who_is_in_the_way_of_a_node_is_named() {
    let fixture = Fixture::new();
    let (path, other) = (fixture.path("dev/vfio/12"), fixture.path("dev/vfio/devices/vfio0"));
    fixture.file("dev/vfio/12", "");
    let meta = fs::metadata(&path).unwrap();
    let owner = format!("uid {}, gid {} (mode {:04o})", meta.uid(), meta.gid(), meta.mode() & 0o7777);
    let explained = |errno| {
        let error = io::Error::from_raw_os_error(errno);
        explain(&fixture.host(), path.clone(), Some(other.clone()), error).to_string()
    };

    let node = path.display();
    assert_eq!(explained(libc::EACCES), format!("no permission to open {node}, which belongs to {owner}"));
    assert_eq!(explained(libc::ENODEV), format!("cannot open {node}"));
    assert_eq!(explained(libc::EBUSY), format!("{node} is in use by another process"));
    for (pid, name, node) in [(4711, "qemu-system-x86", &path), (4712, "vmm", &other)] {
        fixture.file(&format!("proc/{pid}/comm"), &format!("{name}\n"));
        fs::create_dir(fixture.path(&format!("proc/{pid}/fd"))).unwrap();
        symlink(node, fixture.path(&format!("proc/{pid}/fd/17"))).unwrap();
    }
    let said = explained(libc::EBUSY);
    assert!(said.contains("qemu-system-x86 (pid 4711)") && said.contains("vmm (pid 4712)"), "{said}");
}
