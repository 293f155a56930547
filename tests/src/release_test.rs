use super::*;

#[test]
fn a_list_that_cannot_be_had_is_told_from_one_that_names_a_crate() {
    assert!(is_list_missing("[ERROR] failed to fetch advisory database"));
    assert!(is_list_missing(
        "fatal: cannot change to '.cargo/advisory-dbs/advisory-db-3157b0e2': No such file or directory"
    ));
    assert!(!is_list_missing("error[vulnerability]: writes where it should not\n = ID: RUSTSEC-2020-0001"));
}
