use std::io::Write;
use std::process::{Command, Stdio};

use proptest::prelude::*;

use super::*;

#[derive(Debug, PartialEq)]
struct Member {
    name: String,
    mode: u32,
    inode: u32,
    device: (u32, u32),
    data: Vec<u8>,
}

/// An independent reader of the format, as strict as the kernel's.
fn read(archive: &[u8]) -> Vec<Member> {
    let mut members = Vec::new();
    let mut at = 0;
    loop {
        assert_eq!(at % 4, 0, "a header starts on 4 bytes");
        assert_eq!(&archive[at..at + 6], MAGIC.as_bytes());
        let field = |n: usize| {
            let text = std::str::from_utf8(&archive[at + 6 + n * 8..at + 14 + n * 8]).unwrap();
            u32::from_str_radix(text, 16).unwrap()
        };
        let (size, name_size) = (field(6) as usize, field(11) as usize);
        let name = &archive[at + HEADER..at + HEADER + name_size];
        assert_eq!(name.last(), Some(&0));
        let name = String::from_utf8(name[..name_size - 1].to_vec()).unwrap();
        let data = (at + HEADER + name_size).next_multiple_of(4);
        if name == TRAILER {
            assert_eq!((size, data), (0, archive.len()));
            return members;
        }
        members.push(Member {
            name,
            mode: field(1),
            inode: field(0),
            device: (field(9), field(10)),
            data: archive[data..data + size].to_vec(),
        });
        at = (data + size).next_multiple_of(4);
    }
}

fn holding(data: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(data).unwrap();
    file
}

#[test]
fn an_empty_archive_is_a_trailer() {
    let bytes = bytes(Archive::new().finish());
    assert!(read(&bytes).is_empty());
    assert_eq!(bytes.len(), 124);
}

#[test]
fn names_that_cannot_be_archived_are_refused() {
    let mut archive = Archive::new();
    for name in ["", "/init", "a\0b", TRAILER, &"x".repeat(4096)] {
        assert_eq!(archive.file(name, 0o644, b"x"), Err(CpioError::Name { name: name.to_owned() }));
    }
    assert!(read(&bytes(archive.finish())).is_empty());
}

#[test]
fn the_system_cpio_lists_the_same_names() {
    let mut archive = Archive::new();
    archive.directory("dev", 0o755).unwrap();
    archive.character_device("dev/console", 0o600, (5, 1)).unwrap();
    archive.file("init", 0o755, b"12345").unwrap();
    archive.whole_file("etc", 0o644, holding(b"x")).unwrap();
    let spawned = Command::new("cpio")
        .args(["-t", "--quiet"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    // The reader above has already checked the format where cpio is not installed.
    let Ok(mut child) = spawned else { return };
    child.stdin.take().unwrap().write_all(&bytes(archive.finish())).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "dev\ndev/console\ninit\netc\n");
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        files in proptest::collection::vec(
            ("[a-z./]{0,20}[a-z]", 0u32..0o10000, proptest::collection::vec(any::<u8>(), 0..50), any::<bool>()), 0..10)
    ) {
        let mut archive = Archive::new();
        let mut expected = Vec::new();
        archive.directory("d", 0o755).unwrap();
        archive.character_device("d/null", 0o666, (1, 3)).unwrap();
        expected.push(Member { name: "d".into(), mode: 0o040_755, inode: 1, device: (0, 0), data: vec![] });
        expected.push(Member { name: "d/null".into(), mode: 0o020_666, inode: 2, device: (1, 3), data: vec![] });
        for (name, mode, data, whole) in files {
            let added = match whole {
                true => archive.whole_file(&name, mode, holding(&data)).is_ok(),
                false => archive.file(&name, mode, &data).is_ok(),
            };
            if added {
                let inode = expected.len() as u32 + 1;
                expected.push(Member { name, mode: 0o100_000 | mode, inode, device: (0, 0), data });
            } else {
                prop_assert!(name.starts_with('/'));
            }
        }
        prop_assert_eq!(read(&bytes(archive.finish())), expected);
    }
}
