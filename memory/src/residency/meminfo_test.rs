use super::*;

#[test]
fn reads_what_it_knows() {
    let info = Meminfo::parse(
        "MemTotal:        2519872 kB\nMemFree:         2300000 kB\nMemAvailable:    2310000 kB\n\
         SwapFree:              0 kB\nHugePages_Total:       0\nCmaTotal:         921600 kB\nCmaFree:          900000 kB\n",
    );
    assert_eq!(info.total, 2_519_872 << 10);
    assert_eq!(info.available, 2_310_000 << 10);
    assert_eq!(info.cma_total, 900 << 20);
    assert_eq!(info.cma_free, 900_000 << 10);
}

#[test]
fn takes_any_input() {
    for text in
        ["", "CmaTotal:", "CmaTotal: -1 kB", "CmaTotal: x", ":::", "MemTotal: 99999999999999999999 kB"]
    {
        assert_eq!(Meminfo::parse(text), Meminfo::default(), "{text}");
    }
    assert_eq!(Meminfo::parse("MemTotal: 18446744073709551615 kB").total, u64::MAX);
}

#[test]
fn what_names_no_memory_is_no_meminfo() {
    for text in ["", "\0\u{fffd}", "MemAvailable: 7 kB", "MemTotal: 0 kB", "MemTotal: x"] {
        assert!(Meminfo::parse_whole(text).is_err(), "{text}");
    }
    assert_eq!(Meminfo::parse_whole("MemTotal: 4 kB").unwrap().total, 4096);
}

#[test]
fn this_host_has_memory() {
    assert!(Meminfo::read().unwrap().total > 0);
}

proptest::proptest! {
    #![proptest_config(crate::fuzz::thoroughly())]
    #[test]
    fn takes_any_text(text in crate::fuzz::hostile_text(include_str!("../../testdata/meminfo.txt"))) {
        let info = Meminfo::parse(&text);
        proptest::prop_assert!(text.contains("CmaFree") || info.cma_free == 0);
    }
}
