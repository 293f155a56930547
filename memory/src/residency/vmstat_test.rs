use super::*;

const BEFORE: &str = "nr_free_pages 3840\npgmigrate_success 100\npgmigrate_fail 1\nallocstall_dma 0\nallocstall_normal 2\n\
                      allocstall_movable 3\nthp_migration_fail 0\noom_kill 0\nnr_foll_pin_acquired 7\n";
const AFTER: &str = "pgmigrate_success 121052\npgmigrate_fail 513\nallocstall_normal 2\nallocstall_movable 9\n\
                     thp_migration_fail 1\n";

#[test]
fn growth_between_two_readings() {
    let grown = Vmstat::parse(AFTER).since(&Vmstat::parse(BEFORE));
    assert_eq!((grown.pgmigrate_success, grown.pgmigrate_fail, grown.thp_migration_fail), (120_952, 512, 1));
    assert_eq!(grown.allocstall, 6);
    assert_eq!(grown.nr_foll_pin_acquired, 0);
    assert!(grown.migration_failed());
    assert!(!Vmstat::default().migration_failed());
}

#[test]
fn takes_any_input() {
    for text in ["", "pgmigrate_success", "pgmigrate_success x", "pgmigrate_success -5", " \n\n 7"] {
        assert_eq!(Vmstat::parse(text), Vmstat::default(), "{text}");
    }
    let max = "allocstall_a 18446744073709551615\nallocstall_b 1";
    assert_eq!(Vmstat::parse(max).allocstall, u64::MAX);
}

#[test]
fn what_names_no_counter_is_no_vmstat() {
    for text in ["", "pgmigrate_success 1", "nr_free_pages"] {
        assert!(Vmstat::parse_whole(text).is_err(), "{text}");
    }
    assert_eq!(Vmstat::parse_whole(BEFORE).unwrap(), Vmstat::parse(BEFORE));
}

#[test]
fn this_host_has_counters() {
    assert!(std::fs::read_to_string("/proc/vmstat").unwrap().contains("pgmigrate_success"));
    Vmstat::read().unwrap();
}

proptest::proptest! {
    #![proptest_config(crate::fuzz::thoroughly())]
    #[test]
    fn takes_any_text(text in crate::fuzz::hostile_text(include_str!("../../testdata/vmstat.txt"))) {
        let counters = Vmstat::parse(&text);
        proptest::prop_assert_eq!(counters.since(&counters), Vmstat::default());
        proptest::prop_assert_eq!(counters.since(&Vmstat::default()), counters);
    }
}
