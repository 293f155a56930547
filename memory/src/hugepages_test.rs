use super::*;
use crate::bytes::{GIB, MIB};

fn host(pools: &[(u64, [u64; 5])]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (page, figures) in pools {
        let directory = root.path().join(POOLS).join(format!("hugepages-{}kB", page / KIB));
        fs::create_dir_all(&directory).unwrap();
        let names = [
            "nr_hugepages",
            "free_hugepages",
            "resv_hugepages",
            "nr_overcommit_hugepages",
            "surplus_hugepages",
        ];
        for (name, figure) in names.iter().zip(figures) {
            fs::write(directory.join(name), format!("{figure}\n")).unwrap();
        }
    }
    root
}

#[test]
fn what_the_pool_has_and_may_add_is_given() {
    let root = host(&[(2 * MIB, [120, 100, 10, 8, 3])]);
    let pool = Pool::read(root.path(), 2 * MIB).unwrap();
    assert_eq!(pool, Pool { page: 2 * MIB, total: 120, free: 100, reserved: 10, more: 5 });
    assert_eq!(pool.spare(), 190 * MIB);
    pool.admit(190 * MIB).unwrap();
    let error = pool.admit(256 * MIB).unwrap_err();
    assert_eq!(
        error.to_string(),
        "guest memory takes 128 huge pages of 2 MiB, the pool has 95 to give (120 in all, 10 promised to others)"
    );
    let help = error.help().unwrap().to_string();
    assert!(help.contains("echo 153 > /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"), "{help}");
    assert!(help.contains("hugepagesz=2M hugepages=153"), "{help}");
}

#[test]
fn sizes_that_the_host_has_not_are_refused_with_those_it_has() {
    let figures = [0; 5];
    let root = host(&[(GIB, figures), (2 * MIB, figures)]);
    let error = Pool::read(root.path(), 16 * MIB).unwrap_err();
    assert_eq!(error.to_string(), "the host has no huge pages of 16 MiB, but of 2 MiB and 1 GiB");
    let error = Pool::read(host(&[]).path(), 2 * MIB).unwrap_err();
    assert_eq!(error.to_string(), "the host has no huge pages of 2 MiB");
}

#[test]
fn figures_that_are_none_are_an_error() {
    let root = host(&[(2 * MIB, [1; 5])]);
    fs::write(root.path().join(POOLS).join("hugepages-2048kB/free_hugepages"), "-1\n").unwrap();
    assert!(matches!(Pool::read(root.path(), 2 * MIB), Err(HugePageError::Unreadable { .. })));
}

#[test]
fn memory_is_whole_pages() {
    let huge = |page| Backing::HugePages { page };
    huge(2 * MIB).check(512 * MIB).unwrap();
    Backing::Pages.check(4097).unwrap();
    let error = huge(GIB).check(1536 * MIB).unwrap_err();
    assert_eq!(error.to_string(), "guest memory of 1536 MiB is not a whole number of huge pages of 1 GiB");
    assert!(error.help().unwrap().to_string().contains("--memory 2G"));
    for page in [0, 4096, 3 * MIB] {
        assert!(matches!(huge(page).check(0), Err(HugePageError::Odd { .. })), "{page}");
    }
}

#[test]
fn the_usual_size_is_read() {
    assert_eq!(usual("HugePages_Surp:        0\nHugepagesize:       2048 kB\n"), Some(2 * MIB));
    assert_eq!(usual("MemTotal: 1 kB\n"), None);
}
