use std::fs;

use super::*;
use crate::bytes::MIB;
use crate::{AddressLimits, GuestRam, Layout};

const BOTH: [RootHelp; 2] = [RootHelp::Compact, RootHelp::Split];
const FULL: &str = "Node 0, zone Normal, type Movable 9 9 9 9 9 9 9 9 9 0 0\n\
                    Node 0, zone Normal, type CMA 0 0 0 0 0 0 0 0 0 0 31\n";

/// A root directory that takes notes.
struct Root(tempfile::TempDir);

impl Root {
    fn new(shmem_enabled: &str, page_types: &str) -> Self {
        let root = Self(tempfile::tempdir().unwrap());
        for (file, text) in
            [(COMPACT, ""), (SPLIT, ""), (PAGE_TYPES, page_types), (SHMEM_ENABLED, shmem_enabled)]
        {
            root.write(file, text);
        }
        root
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.0.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.0.path().join(file)).unwrap()
    }
}

fn with_culprit(test: impl Fn(&Chunk)) {
    let ram = GuestRam::new(&Layout::new(16 * MIB, &AddressLimits::cpu_only(46)).unwrap()).unwrap();
    let units = ram.chunks(2 * MIB);
    ram::populate(&units[3]).unwrap();
    test(&units[3]);
}

#[test]
fn both_are_used_and_compaction_once() {
    let root = Root::new("always within_size [advise] never deny force\n", FULL);
    let helper = RootHelper::below(root.0.path(), &BOTH);
    with_culprit(|culprit| {
        helper.help(culprit).unwrap();
        assert_eq!(root.read(COMPACT), "1");
        let (start, end) = (culprit.hva, culprit.hva + 2 * MIB);
        assert_eq!(root.read(SPLIT), format!("{},{start:#x},{end:#x}", std::process::id()));
        root.write(COMPACT, "");
        helper.help(culprit).unwrap();
        assert_eq!(root.read(COMPACT), "");
    });
}

#[test]
fn with_a_free_huge_page_nothing_is_compacted() {
    let free = "Node 0, zone Normal, type Movable 9 9 9 9 9 9 9 9 9 0 1\n";
    let root = Root::new("[always] never\n", free);
    with_culprit(|culprit| {
        RootHelper::below(root.0.path(), &BOTH).help(culprit).unwrap();
        assert_eq!(root.read(COMPACT), "");
        assert_ne!(root.read(SPLIT), "");
    });
}

#[test]
fn without_huge_pages_or_leave_nothing_is_done() {
    for (shmem_enabled, means) in
        [("always advise [never] deny\n", &BOTH[..]), ("[deny]", &BOTH), ("", &BOTH), ("[advise]", &[])]
    {
        let root = Root::new(shmem_enabled, FULL);
        with_culprit(|culprit| {
            RootHelper::below(root.0.path(), means).help(culprit).unwrap();
            assert_eq!((root.read(COMPACT), root.read(SPLIT)), (String::new(), String::new()));
        });
    }
}

#[test]
fn what_is_not_there_is_an_error_and_the_rest_is_used() {
    let root = Root::new("[advise]", FULL);
    fs::remove_file(root.0.path().join(COMPACT)).unwrap();
    let helper = RootHelper::below(root.0.path(), &BOTH);
    let [missing] = helper.check().try_into().unwrap();
    assert!(missing.to_string().ends_with("/proc/sys/vm/compact_memory") && missing.path.ends_with(COMPACT));
    with_culprit(|culprit| {
        let error = helper.help(culprit).unwrap_err();
        assert_eq!((error.path, error.source.kind()), (root.0.path().join(COMPACT), io::ErrorKind::NotFound));
        assert_ne!(root.read(SPLIT), "");
    });
    assert!(RootHelper::below(root.0.path(), &BOTH[1..]).check().is_empty());
}

/// Where the host has the means. `cargo lab exec` runs it on one that has.
#[test]
fn huge_pages_of_this_host_are_split() {
    let _alone = crate::pin::serial();
    let helper = RootHelper::new(&BOTH[1..]);
    if !helper.check().is_empty() || !helper.has_huge_pages() {
        return;
    }
    let split = || crate::residency::Vmstat::read().unwrap().thp_split_page;
    let before = (crate::residency::Vmstat::read().unwrap().thp_file_alloc, split());
    with_culprit(|culprit| {
        let allocated = crate::residency::Vmstat::read().unwrap().thp_file_alloc > before.0;
        helper.help(culprit).unwrap();
        assert!(!allocated || split() > before.1);
    });
}
