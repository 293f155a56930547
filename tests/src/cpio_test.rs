use super::*;

fn sample() -> Vec<u8> {
    let mut archive = Archive::new(Vec::new());
    archive.directory("dev").unwrap();
    archive.character("dev/console", 5, 1).unwrap();
    archive.file("init", 0o755, b"#!/bin/sh\n").unwrap();
    archive.symlink("linuxrc", "init").unwrap();
    archive.finish().unwrap()
}

/// (name, mode, device minor, content) of each entry, read as the kernel reads it.
fn entries(mut archive: &[u8]) -> Vec<(String, u32, u32, Vec<u8>)> {
    let mut found = Vec::new();
    loop {
        assert_eq!(&archive[..6], b"070701");
        let field = |n: usize| {
            let text = std::str::from_utf8(&archive[6 + 8 * n..14 + 8 * n]).unwrap();
            u32::from_str_radix(text, 16).unwrap()
        };
        let (mode, size, minor, name_size) = (field(1), field(6) as usize, field(10), field(11) as usize);
        let name = String::from_utf8(archive[110..110 + name_size - 1].to_vec()).unwrap();
        if name == "TRAILER!!!" {
            assert_eq!(archive.len(), (110 + name_size).next_multiple_of(4));
            return found;
        }
        let content = (110 + name_size).next_multiple_of(4);
        found.push((name, mode, minor, archive[content..content + size].to_vec()));
        archive = &archive[(content + size).next_multiple_of(4)..];
    }
}

#[test]
fn an_archive_holds_what_was_put_in() {
    let expected = [
        ("dev", 0o040_755, 0, &b""[..]),
        ("dev/console", 0o020_600, 1, b""),
        ("init", 0o100_755, 0, b"#!/bin/sh\n"),
        ("linuxrc", 0o120_777, 0, b"init"),
    ];
    let expected: Vec<_> = expected.map(|(n, m, d, c)| (n.to_owned(), m, d, c.to_vec())).into();
    assert_eq!(entries(&sample()), expected);
}

#[test]
fn the_same_content_gives_the_same_archive() {
    assert_eq!(sample(), sample());
}
