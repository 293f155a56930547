use super::*;

fn contains(archive: &[u8], text: &str) -> bool {
    archive.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn modules_go_in_with_their_order_and_what_cannot_be_read_is_noted() {
    let dir = tempfile::tempdir().unwrap();
    let present = dir.path().join("nvme-core.ko.xz");
    std::fs::write(&present, "MODULE BYTES").unwrap();
    let set = ModuleSet {
        files: vec![present, dir.path().join("absent.ko"), dir.path().to_owned()],
        notes: vec!["a note".into()],
    };
    let init = dir.path().join("init");
    std::fs::write(&init, "ELF").unwrap();
    let archive = cpio::bytes(assemble(&init, &set).unwrap());
    for text in ["init\0", "ELF", "dev/console\0", "lib/modules/nvme-core.ko.xz\0", "MODULE BYTES"] {
        assert!(contains(&archive, text), "{text}");
    }
    assert!(contains(&archive, "\0nvme-core.ko.xz\n070701"), "the order names the one module that is there");
    assert!(contains(&archive, "a note\nmodule "));
    assert!(contains(&archive, "absent.ko left out: No such file"));
    assert!(contains(&archive, "left out: not a regular file"));
}

#[test]
fn a_file_over_the_limit_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    std::fs::write(&path, "12345").unwrap();
    assert_eq!(read_file(&path, 5).unwrap(), b"12345");
    assert_eq!(read_file(&path, 4).unwrap_err().to_string(), "larger than 4 bytes");
}

#[test]
fn the_running_binary_becomes_init() {
    let size = std::fs::metadata("/proc/self/exe").unwrap().len();
    assert!(cpio::bytes(build(&ModuleSet::default()).unwrap()).len() as u64 > size);
}
