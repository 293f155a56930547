use super::*;

#[test]
fn versions_sort_as_dpkg_sorts_them() {
    let rising = [
        "1.0~rc1-1",
        "1.0-1",
        "1.0-1+b1",
        "1.0-2",
        "1.2-1",
        "1.10-1",
        "6.1",
        "6.12.9-1",
        "6.12.117-1~deb12u1",
        "6.12.117-1",
        "7.3.4-1~bpo13+1",
    ];
    for pair in rising.windows(2) {
        assert_eq!(compare(pair[0], pair[1]), Ordering::Less, "{pair:?}");
        assert_eq!(compare(pair[1], pair[0]), Ordering::Greater, "{pair:?}");
    }
    assert_eq!(compare("1.01", "1.1"), Ordering::Equal);
    assert_eq!(compare("", ""), Ordering::Equal);
}

#[test]
fn package_names_sort_by_the_version_in_them() {
    let older = "linux-image-6.12.99+deb12-cloud-amd64";
    let newer = "linux-image-6.12.117+deb12-cloud-amd64";
    assert_eq!(compare(older, newer), Ordering::Less);
}
