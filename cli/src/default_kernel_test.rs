use proptest::prelude::*;

use super::*;

#[test]
fn releases_are_ordered_by_number() {
    let ascending = [
        "5.10.0-28-amd64",
        "6.1.0-9-amd64",
        "6.1.0-10-amd64",
        "6.1.0-10-cloud-amd64",
        "6.12-rc7",
        "6.12",
        "6.12.9+deb13-amd64",
        "6.12.10+deb13-amd64",
        "7.3.4",
        "99999999999999999999999999.1",
    ];
    for (i, a) in ascending.iter().enumerate() {
        for (j, b) in ascending.iter().enumerate() {
            assert_eq!(compare_releases(a, b), i.cmp(&j), "{a} {b}");
        }
    }
}

#[test]
fn the_running_kernel_goes_before_a_newer_one() {
    let names = ["vmlinuz-6.1.0-9-amd64", "vmlinuz-6.1.0-10-amd64", "config-7.0", "vmlinuz"];
    assert_eq!(choose("6.1.0-9-amd64", names.into_iter()), Some(names[0]));
    assert_eq!(choose("5.0", names.into_iter()), Some(names[1]));
}

#[test]
fn an_image_goes_before_an_elf_of_the_same_release_and_leftovers_are_no_kernels() {
    let names = ["vmlinux-7.3.4", "vmlinuz-7.3.4", "vmlinuz-8.0.old", "vmlinuz-9.0~", "vmlinuz-"];
    assert_eq!(choose("7.3.4", names.into_iter()), Some("vmlinuz-7.3.4"));
    assert_eq!(choose("7.0", names.into_iter()), Some("vmlinuz-7.3.4"));
    assert_eq!(choose("7.0", ["vmlinux-7.3.4"].into_iter()), Some("vmlinux-7.3.4"));
    assert_eq!(choose("7.0", ["initrd.img-7.0"].into_iter()), None);
}

#[test]
fn a_boot_directory_is_searched() {
    let dir = tempfile::tempdir().unwrap();
    let error = find_in(dir.path(), "7.0").unwrap_err();
    assert!(error.to_string().ends_with("neither vmlinuz-7.0 nor any other vmlinuz-* or vmlinux-*"));
    assert!(error.help().unwrap().to_string().contains("--kernel"));
    std::fs::write(dir.path().join("vmlinuz-6.1.0-9-amd64"), "").unwrap();
    let found = find_in(dir.path(), "7.0").unwrap();
    assert_eq!(found.release, "6.1.0-9-amd64");
    assert_eq!(found.path, dir.path().join("vmlinuz-6.1.0-9-amd64"));
    let error = find_in(&dir.path().join("absent"), "7.0").unwrap_err();
    assert!(matches!(error, NoKernel::Unreadable { .. }));
}

fn image(offset: u16, version: &[u8]) -> Vec<u8> {
    let mut image = vec![0; 0x400];
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x20e..0x210].copy_from_slice(&offset.to_le_bytes());
    image.extend_from_slice(version);
    image
}

#[test]
fn a_bzimage_tells_its_release() {
    let release = |offset, version: &[u8]| release_in_image(&image(offset, version));
    assert_eq!(release(0x200, b"6.1.0-56-cloud-amd64 (x@y) #1\0").as_deref(), Some("6.1.0-56-cloud-amd64"));
    assert_eq!(release(0x200, b"../../etc x\0"), None);
    assert_eq!(release(0x200, b"..\0"), None);
    assert_eq!(release(0x200, b""), None);
    assert_eq!(release(0, b"7.0 \0"), None);
    assert_eq!(release(0xffff, b"7.0 \0"), None);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vmlinux-7.3.4");
    std::fs::write(&path, "\x7fELF").unwrap();
    assert_eq!(release_of(&path).as_deref(), Some("7.3.4"));
    assert_eq!(release_of(&dir.path().join("absent")), None);
}

proptest! {
    #[test]
    fn the_order_is_total(a in "[0-9a.~-]{0,8}", b in "[0-9a.~-]{0,8}", c in "[0-9a.~-]{0,8}") {
        prop_assert_eq!(compare_releases(&a, &b), compare_releases(&b, &a).reverse());
        if compare_releases(&a, &b).is_le() && compare_releases(&b, &c).is_le() {
            prop_assert!(compare_releases(&a, &c).is_le());
        }
    }

    #[test]
    fn no_image_panics(bytes in proptest::collection::vec(any::<u8>(), 0..0x300)) {
        let _ = release_in_image(&bytes);
    }
}
