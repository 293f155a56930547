use super::*;

const IDENTITY: &str = "         0          0 4294967295\n";
const LIMITS: &str = "\
Limit                     Soft Limit           Hard Limit           Units
Max cpu time              unlimited            unlimited            seconds
Max locked memory         8388608              16777216             bytes
";

#[test]
fn the_capability_counts_in_the_initial_user_namespace() {
    let with = "Name:\tvmm\nCapPrm:\t000001ffffffffff\nCapEff:\t0000000000004000\n";
    let without = "CapPrm:\t000001ffffffffff\nCapEff:\t00000000ffffbfff\n";
    assert!(can_lock(with, IDENTITY));
    assert!(!can_lock(with, "0 100000 65536\n"));
    assert!(!can_lock(without, IDENTITY));
    for text in ["", "CapEff:", "CapEff:\tzz"] {
        assert!(!can_lock(text, IDENTITY));
    }
}

#[test]
fn the_soft_limit_holds() {
    assert_eq!(parse_limit(LIMITS), Some(8 << 20));
    assert_eq!(parse_limit("Max locked memory unlimited unlimited bytes"), None);
    assert_eq!(parse_limit("Max locked memory"), None);
    assert_eq!(parse_limit(""), None);
}

#[test]
fn what_is_allowed() {
    let limited = Memlock { limit: Some(8 << 20) };
    assert!(limited.allows(8 << 20) && !limited.allows((8 << 20) + 1));
    assert!(Memlock { limit: None }.allows(u64::MAX));
    assert_eq!(
        (limited.to_string(), Memlock { limit: None }.to_string()),
        ("8 MiB".into(), "unlimited".into())
    );
}

proptest::proptest! {
    #![proptest_config(crate::fuzz::thoroughly())]
    #[test]
    fn takes_any_text(
        status in crate::fuzz::hostile_text(include_str!("../../testdata/status.txt")),
        limits in crate::fuzz::hostile_text(include_str!("../../testdata/limits.txt")),
        uid_map in crate::fuzz::hostile_text(IDENTITY),
    ) {
        proptest::prop_assert!(status.contains("CapEff:") || !can_lock(&status, &uid_map));
        proptest::prop_assert!(limits.contains("Max locked memory") || parse_limit(&limits).is_none());
    }
}
