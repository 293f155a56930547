use std::fs;

use super::*;

fn cgroup(root: &Path, path: &str, max: &str, current: &str, stat: &str) {
    let directory = root.join(path);
    fs::create_dir_all(&directory).unwrap();
    for (name, text) in [("memory.max", max), ("memory.current", current), ("memory.stat", stat)] {
        fs::write(directory.join(name), text).unwrap();
    }
}

#[test]
fn the_tightest_counts() {
    let root = tempfile::tempdir().unwrap();
    cgroup(
        root.path(),
        "a",
        "1000000\n",
        "900000\n",
        "anon 100000\nfile 800000\nshmem 300000\nfile_mapped 7\n",
    );
    cgroup(root.path(), "a/b", "max\n", "5\n", "");
    cgroup(root.path(), "a/b/c", "700000\n", "0\n", "");
    let tightest = |membership| Cgroup::tightest_in(root.path(), membership);
    let a = Cgroup { path: "/a".to_owned(), limit: 1_000_000, free: 600_000 };
    assert_eq!(tightest("1:name=systemd:/x\n0::/a/b/c\n"), Some(a.clone()));
    assert_eq!(tightest("0::/a/b\n"), Some(a));
    cgroup(root.path(), "a/b/c", "700000", "200000", "file 0\n");
    let c = Cgroup { path: "/a/b/c".to_owned(), limit: 700_000, free: 500_000 };
    assert_eq!(tightest("0::/a/b/c"), Some(c));
    for membership in ["", "0::/", "3:memory:/a\n", "0::/elsewhere", "0::/../b"] {
        assert_eq!(tightest(membership), None, "{membership}");
    }
}

#[test]
fn takes_any_input() {
    let root = tempfile::tempdir().unwrap();
    for (max, current, stat) in
        [("", "0", ""), ("x", "0", ""), ("-1", "0", ""), ("7", "", ""), ("99999999999999999999", "0", "")]
    {
        cgroup(root.path(), "a", max, current, stat);
        assert_eq!(Cgroup::tightest_in(root.path(), "0::/a"), None, "{max} {current}");
    }
    // More used than allowed, as after the limit was lowered; more to reclaim than used.
    cgroup(root.path(), "a", "7", "18446744073709551615", "file x\nshmem 5\n");
    assert_eq!(Cgroup::tightest_in(root.path(), "0::/a").unwrap().free, 0);
    cgroup(root.path(), "a", "7", "5", "file 18446744073709551615\n");
    assert_eq!(Cgroup::tightest_in(root.path(), "0::/a").unwrap().free, 7);
}
