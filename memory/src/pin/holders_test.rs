use std::process::{Command, Stdio};

use proptest::prelude::*;

use super::*;
use crate::bytes::MIB;
use crate::{AddressLimits, GuestRam, Layout};

#[test]
fn maps_lines_are_told_apart() {
    let device = rustix::fs::makedev(0, 1);
    let line = "7f00-7f20 rw-s 00000000 00:01 4711     /memfd:guest-ram (deleted)";
    assert!(maps_inode(&format!("00400000-0041 r-xp 0 fe:00 12 /bin/x\n{line}\n"), device, 4711));
    assert!(!maps_inode(line, device, 471));
    assert!(!maps_inode(line, rustix::fs::makedev(1, 1), 4711));
}

#[test]
fn others_who_have_it_open_are_found_and_we_are_not() {
    let ram = GuestRam::new(&Layout::new(32 * MIB, &AddressLimits::cpu_only(46)).unwrap()).unwrap();
    assert_eq!(find(ram.file()), []);
    let mut child =
        Command::new("sleep").arg("100").stdin(Stdio::from(ram.file().try_clone().unwrap())).spawn().unwrap();
    let metadata = ram.file().metadata().unwrap();
    let pid = child.id();
    // As seen by a stranger.
    let found = find_in(Path::new("/proc"), metadata.dev(), metadata.ino(), 1);
    assert!(find(ram.file()).is_empty());
    child.kill().unwrap();
    child.wait().unwrap();
    let theirs = found.iter().find(|holder| holder.pid == pid).unwrap();
    assert_eq!(theirs.to_string(), format!("{} (pid {pid}) has it open", theirs.command));
    assert!(found.iter().any(|holder| holder.pid == std::process::id() && holder.maps));
}

proptest! {
    #[test]
    fn any_maps_are_read(text in "\\PC*", device: u64, inode: u64) {
        maps_inode(&text, device, inode);
    }
}

proptest! {
    #![proptest_config(crate::fuzz::thoroughly())]
    #[test]
    fn takes_any_text(
        maps in crate::fuzz::hostile_text(concat!(
            include_str!("../../testdata/maps.txt"),
            "7f00-7f20 rw-s 00000000 00:01 4711     /memfd:guest-ram (deleted)\n"
        )),
        stat in crate::fuzz::hostile_text("145 (a) b) R 96 96 96 0 -1 4194304 59 0"),
    ) {
        prop_assert!(maps.contains("4711") || !maps_inode(&maps, rustix::fs::makedev(0, 1), 4711));
        prop_assert!(stat.contains(')') || parse_parent(&stat).is_none());
    }
}
