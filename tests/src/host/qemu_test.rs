use std::path::Path;

use super::*;
use crate::host::{NIC, NVME};

#[test]
fn the_slots_are_the_addresses_that_commands_name() {
    assert_eq!(NVME, format!("0000:00:{:02x}.0", SLOTS.nvme));
    assert_eq!(NIC, format!("0000:00:{:02x}.0", SLOTS.nic));
}

#[test]
fn a_comma_in_a_path_does_not_end_the_option() {
    assert_eq!(escaped(Path::new("/none/a,b")), OsString::from("/none/a,,b"));
}

#[test]
fn arguments_may_name_paths() {
    let paths = [(DISTRIBUTION, Path::new("/none/c")), (KERNEL, Path::new("/none/a,b"))];
    let with = |word: &str| with_paths(OsStr::new(word), &paths);
    assert_eq!(with("if=none,file=HOST_KERNEL,x=y"), OsString::from("if=none,file=/none/a,,b,x=y"));
    assert_eq!(with("-device"), OsString::from("-device"));
}
