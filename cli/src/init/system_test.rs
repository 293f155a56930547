use super::*;

#[test]
fn cpu_lists_are_counted() {
    assert_eq!(count_list("0"), Some(1));
    assert_eq!(count_list("0-3,8"), Some(5));
    assert_eq!(count_list("0-4294967295"), Some(1 << 32));
    for garbage in ["", "3-0", "a", "0-", "0-99999999999"] {
        assert_eq!(count_list(garbage), None, "{garbage}");
    }
}

#[test]
fn what_is_missing_is_none() {
    let system = System::at("/nonexistent");
    assert_eq!(system.memory_mib(), (None, None));
    assert_eq!(system.cpus_online(), None);
    assert!(names(Path::new("/nonexistent")).is_empty());
    assert_eq!(hex(Path::new("/nonexistent")), None);
    assert_eq!(or_unknown(None::<u32>), "unknown");
}
