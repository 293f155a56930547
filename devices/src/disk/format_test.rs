use super::*;

fn detect(name: &str, head: &[u8]) -> Result<Format, DiskError> {
    decide(Path::new(name), None, head)
}

#[test]
fn content_and_name_must_agree_on_qcow2() {
    let header = b"QFI\xfb\0\0\0\x03";
    assert_eq!(detect("root.qcow2", header).unwrap(), Format::Qcow2);
    assert_eq!(detect("root.QCOW2", header).unwrap(), Format::Qcow2);
    // A guest can have written that to its raw disk.
    assert!(matches!(detect("root.img", header), Err(DiskError::Ambiguous { .. })));
    assert!(matches!(detect("/dev/vg/root", header), Err(DiskError::Ambiguous { .. })));
    assert!(matches!(detect("root.qcow2", &[0; HEAD]), Err(DiskError::NotQcow2 { .. })));
}

#[test]
fn what_was_said_counts() {
    let (header, name) = (b"QFI\xfb\0\0\0\x03", Path::new("root.img"));
    assert_eq!(decide(name, Some(Format::Raw), header).unwrap(), Format::Raw);
    assert_eq!(decide(name, Some(Format::Qcow2), header).unwrap(), Format::Qcow2);
    assert_eq!(decide(name, Some(Format::Raw), b"KDMV").unwrap(), Format::Raw);
    assert!(matches!(decide(name, Some(Format::Qcow2), b"KDMV"), Err(DiskError::NotQcow2 { .. })));
}

#[test]
fn formats_that_are_not_read_are_named() {
    let mut vdi = b"<<< Oracle VM VirtualBox Disk Image >>>\n".to_vec();
    vdi.resize(64, 0);
    vdi.extend([0x7f, 0x10, 0xda, 0xbe]);
    for (head, expected) in [(&b"KDMV\x01"[..], "VMDK"), (b"vhdxfile", "VHDX"), (&vdi, "VDI")] {
        match detect("disk.img", head) {
            Err(DiskError::Foreign { format, .. }) => assert_eq!(format, expected),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn anything_else_is_raw_however_short() {
    for head in [&b""[..], b"QF", b"\x55\xaa", &[0; HEAD]] {
        assert_eq!(detect("disk", head).unwrap(), Format::Raw);
    }
}
