use std::fs;
use std::os::unix::fs::MetadataExt;

use miette::Diagnostic;

use super::testing::{Images, Rig};
use super::*;

const MIB: u64 = 1 << 20;

fn refuse(options: &DiskOptions) -> DiskError {
    let error = Disk::open(options).unwrap_err();
    assert!(!error.help().map(|help| help.to_string()).unwrap_or_default().is_empty(), "{error:?}");
    error
}

fn explicit(path: &Path, format: Format) -> DiskOptions {
    DiskOptions { format: Some(format), ..DiskOptions::new(path) }
}

#[test]
fn what_is_no_image_is_refused() {
    let images = Images::new();
    let missing = refuse(&DiskOptions::new(images.path("none.img")));
    assert!(matches!(missing, DiskError::Open { .. }), "{missing:?}");
    let directory = refuse(&DiskOptions::new(images.path("")));
    assert_eq!(
        directory.to_string(),
        format!("{} is a directory and no disk image", images.path("").display())
    );
    assert!(matches!(refuse(&DiskOptions::new("/dev/zero")), DiskError::NotAnImage { .. }));
    assert!(matches!(
        refuse(&DiskOptions::new(images.raw("tiny.img", 511))),
        DiskError::TooSmall { bytes: 511, .. }
    ));
    fs::write(images.path("other.img"), b"KDMV").unwrap();
    assert!(matches!(refuse(&DiskOptions::new(images.path("other.img"))), DiskError::Foreign { .. }));
}

#[test]
fn a_pipe_is_refused_without_waiting_for_a_writer() {
    let images = Images::new();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        images.path("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    assert!(matches!(
        refuse(&DiskOptions::new(images.path("pipe"))),
        DiskError::NotAnImage { kind: "a pipe", .. }
    ));
}

#[test]
fn the_last_bytes_are_not_seen_if_they_are_no_sector() {
    let images = Images::new();
    let disk = Disk::open(&DiskOptions::new(images.raw("odd.img", 1024 + 511))).unwrap();
    assert_eq!(disk.size(), 1024);
}

#[test]
fn one_writer_or_many_readers() {
    let images = Images::new();
    for path in [images.raw("a.img", MIB), images.qcow2("a.qcow2", MIB, None)] {
        let read_only = DiskOptions { read_only: true, ..DiskOptions::new(&path) };
        let readers = (Disk::open(&read_only).unwrap(), Disk::open(&read_only).unwrap());
        assert!(matches!(refuse(&DiskOptions::new(&path)), DiskError::Locked { writable: true, .. }));
        drop(readers);
        let writer = Disk::open(&DiskOptions::new(&path)).unwrap();
        assert!(matches!(refuse(&DiskOptions::new(&path)), DiskError::Locked { .. }));
        assert!(matches!(refuse(&read_only), DiskError::Locked { writable: false, .. }));
        let unlocked = DiskOptions { lock: false, ..read_only };
        drop(Disk::open(&unlocked).unwrap());
        drop(writer);
        drop(Disk::open(&DiskOptions::new(&path)).unwrap());
    }
}

#[test]
fn a_read_only_disk_is_not_written() {
    let images = Images::new();
    for path in [images.raw("a.img", MIB), images.qcow2("a.qcow2", MIB, None)] {
        let before = fs::read(&path).unwrap();
        let mut rig = Rig::new(&DiskOptions { read_only: true, ..DiskOptions::new(&path) });
        assert!(rig.write(0, &[1; 512]).is_err());
        assert!(rig.run(Operation::Discard { offset: 0, length: 4096 }).is_err());
        assert!(rig.read(0, 512).is_ok());
        assert!(rig.run(Operation::Flush).is_ok());
        drop(rig);
        assert_eq!(fs::read(&path).unwrap(), before);
    }
}

#[test]
fn backing_files_are_opened_only_if_allowed() {
    let images = Images::new();
    let base = images.raw("base.img", MIB);
    fs::write(&base, vec![7; MIB as usize]).unwrap();
    let path = images.qcow2("top.qcow2", MIB, Some(("base.img", "raw")));
    assert!(matches!(refuse(&DiskOptions::new(&path)), DiskError::BackingRefused { .. }));
    let allowed = DiskOptions { backing: true, ..DiskOptions::new(&path) };
    let mut rig = Rig::new(&allowed);
    assert_eq!(rig.read(4096, 512).unwrap(), [7; 512]);
    rig.write(4096, &[8; 512]).unwrap();
    assert_eq!(rig.read(4096, 1024).unwrap(), [[8; 512], [7; 512]].concat());
    // What others build on must not change under them.
    assert!(matches!(refuse(&DiskOptions::new(&base)), DiskError::Locked { .. }));
    drop(rig);
    assert_eq!(fs::read(&base).unwrap(), vec![7; MIB as usize]);

    fs::remove_file(&base).unwrap();
    let error = refuse(&allowed);
    assert!(
        matches!(&error, DiskError::Backing { source, .. } if matches!(**source, DiskError::Open { .. }))
    );
}

#[test]
fn chains_that_make_no_sense_are_refused() {
    let images = Images::new();
    let one = images.qcow2("one.qcow2", MIB, Some(("two.qcow2", "qcow2")));
    images.qcow2("two.qcow2", MIB, Some(("one.qcow2", "qcow2")));
    // Reading the image once more is a reader beside its writer, so the loop shows in read-only images.
    let options = DiskOptions { backing: true, read_only: true, ..DiskOptions::new(&one) };
    let mut error = refuse(&options);
    while let DiskError::Backing { source, .. } = error {
        error = *source;
    }
    assert!(matches!(error, DiskError::BackingLoop { .. }), "{error:?}");
    assert!(Disk::open(&DiskOptions { read_only: false, ..options.clone() }).is_err());

    let unknown = images.qcow2("unknown.qcow2", MIB, Some(("base", "vmdk")));
    let error = refuse(&DiskOptions { backing: true, ..DiskOptions::new(unknown) });
    assert!(matches!(error, DiskError::BackingFormat { .. }));

    for n in 0..70 {
        let base = format!("{}.qcow2", n + 1);
        images.qcow2(&format!("{n}.qcow2"), MIB, Some((&base, "qcow2")));
    }
    let mut error = refuse(&DiskOptions { path: images.path("0.qcow2"), ..options });
    while let DiskError::Backing { source, .. } = error {
        error = *source;
    }
    assert!(matches!(error, DiskError::BackingDepth { .. }), "{error:?}");
}

#[test]
fn disks_grow_while_they_are_used_and_never_shrink() {
    let images = Images::new();
    for path in [images.raw("a.img", MIB), images.qcow2("a.qcow2", MIB, None)] {
        let mut rig = Rig::new(&DiskOptions::new(&path));
        rig.write(MIB - 512, &[1; 512]).unwrap();
        assert!(rig.write(MIB, &[2; 512]).is_err());
        rig.disk.grow(4 * MIB).unwrap();
        assert_eq!(rig.disk.size(), 4 * MIB);
        assert_eq!(rig.read(MIB - 512, 1024).unwrap(), [[1; 512], [0; 512]].concat());
        rig.write(4 * MIB - 512, &[2; 512]).unwrap();
        assert!(matches!(rig.disk.grow(2 * MIB), Err(GrowError::Shrink { .. })));
        assert!(matches!(rig.disk.grow(4 * MIB + 1), Err(GrowError::Unaligned { .. })));
        drop(rig);
        let mut again = Rig::new(&DiskOptions::new(&path));
        assert_eq!(again.disk.size(), 4 * MIB);
        assert_eq!(again.read(4 * MIB - 512, 512).unwrap(), [2; 512]);
    }
}

#[test]
fn an_image_that_was_made_larger_is_taken_as_it_is() {
    let images = Images::new();
    let path = images.raw("a.img", MIB);
    let disk = Disk::open(&DiskOptions::new(&path)).unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_len(4 * MIB).unwrap();
    disk.grow(2 * MIB).unwrap();
    assert_eq!((disk.size(), fs::metadata(&path).unwrap().len()), (2 * MIB, 4 * MIB));
    let read_only = images.raw("b.img", MIB);
    let disk = Disk::open(&DiskOptions { read_only: true, ..DiskOptions::new(read_only) }).unwrap();
    assert!(matches!(disk.grow(2 * MIB), Err(GrowError::ReadOnly)));
}

#[test]
fn raw_must_be_said_of_what_looks_like_qcow2() {
    let images = Images::new();
    let path = images.raw("guest.img", MIB);
    let mut sector = [0; 512];
    sector[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
    Rig::new(&DiskOptions::new(&path)).write(0, &sector).unwrap();
    assert!(matches!(refuse(&DiskOptions::new(&path)), DiskError::Ambiguous { .. }));
    assert_eq!(Disk::open(&explicit(&path, Format::Raw)).unwrap().format(), Format::Raw);
    assert!(matches!(refuse(&explicit(&path, Format::Qcow2)), DiskError::Header { .. }));
}

#[test]
fn discarded_blocks_go_back_to_the_host() {
    let images = Images::new();
    for path in [images.raw("a.img", 8 * MIB), images.qcow2("a.qcow2", 8 * MIB, None)] {
        let mut rig = Rig::new(&DiskOptions::new(&path));
        assert!(rig.disk.can_discard());
        for at in 0..4 {
            rig.write(at * MIB, &vec![9; MIB as usize]).unwrap();
        }
        rig.run(Operation::Flush).unwrap();
        let blocks = || fs::metadata(&path).unwrap().blocks() * 512;
        assert!(blocks() >= 4 * MIB);
        rig.run(Operation::Discard { offset: 0, length: 2 * MIB }).unwrap();
        rig.run(Operation::WriteZeroes { offset: 2 * MIB, length: MIB, unmap: true }).unwrap();
        rig.run(Operation::Flush).unwrap();
        assert!(blocks() < 2 * MIB, "{} keeps {} bytes", path.display(), blocks());
        assert_eq!(rig.read(2 * MIB, 4096).unwrap(), [0; 4096]);
        assert_eq!(rig.read(3 * MIB, 4096).unwrap(), [9; 4096]);
        rig.run(Operation::WriteZeroes { offset: 3 * MIB, length: 512, unmap: false }).unwrap();
        assert_eq!(rig.read(3 * MIB, 1024).unwrap(), [[0; 512], [9; 512]].concat());
    }
}
