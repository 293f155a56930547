use std::os::unix::fs::FileExt;

use proptest::prelude::*;

use crate::disk::testing::{Images, Rig, read_qcow2};
use crate::disk::{Disk, DiskError, DiskOptions, Operation};

const SIZE: u64 = 4 << 20;

/// An image with some content, and where things lie in it.
fn written(images: &Images, name: &str) -> DiskOptions {
    let options = DiskOptions::new(images.qcow2(name, SIZE, None));
    let mut rig = Rig::new(&options);
    for at in [0, 1 << 20, 3 << 20] {
        rig.write(at, &[at as u8 | 1; 4096]).unwrap();
    }
    options
}

#[test]
fn what_was_flushed_is_in_the_file() {
    let images = Images::new();
    let options = DiskOptions::new(images.qcow2("a.qcow2", SIZE, None));
    let mut rig = Rig::new(&options);
    rig.write(1 << 20, &[7; 4096]).unwrap();
    rig.run(Operation::Flush).unwrap();
    // A copy is what a kill would leave behind.
    std::fs::copy(&options.path, images.path("copy.qcow2")).unwrap();
    assert_eq!(read_qcow2(&images.path("copy.qcow2"), 1 << 20, 4096), [7; 4096]);
}

#[test]
fn a_truncated_image_is_refused() {
    let images = Images::new();
    let options = written(&images, "a.qcow2");
    let file = std::fs::File::options().write(true).open(&options.path).unwrap();
    let whole = file.metadata().unwrap().len();
    file.set_len(whole - 65536).unwrap();
    let error = Disk::open(&options).unwrap_err();
    assert!(matches!(error, DiskError::Header { .. }), "{error:?}");
    file.set_len(100).unwrap();
    assert!(matches!(Disk::open(&options).unwrap_err(), DiskError::Header { .. }));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is in its tables, an image is refused or used, and nothing panics.
    #[test]
    fn no_damage_ends_the_process(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)
    ) {
        let images = Images::new();
        let options = written(&images, "a.qcow2");
        let file = std::fs::File::options().read(true).write(true).open(&options.path).unwrap();
        // Where the header and the tables have bytes that mean something.
        let mut bytes = std::fs::read(&options.path).unwrap();
        bytes.truncate(6 * 65536);
        let telling: Vec<usize> = (0..bytes.len()).filter(|&at| at < 112 || bytes[at] != 0).collect();
        for (index, byte) in changes {
            file.write_all_at(&[byte], *index.get(&telling) as u64).unwrap();
        }
        if let Ok(disk) = Disk::open(&options) {
            let size = disk.size();
            drop(disk);
            let mut rig = Rig::new(&options);
            for at in [0, 1 << 20, 2 << 20, 3 << 20] {
                if at + 4096 <= size {
                    let _ = rig.read(at, 4096);
                    let _ = rig.write(at, &[1; 4096]);
                    let _ = rig.run(Operation::Discard { offset: at, length: 4096 });
                    let _ = rig.run(Operation::Flush);
                }
            }
        }
    }
}
