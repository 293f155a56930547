use super::*;

#[test]
fn a_list_that_cannot_be_had_is_told_from_one_that_names_a_crate() {
    assert!(is_list_missing("[ERROR] failed to fetch advisory database"));
    assert!(is_list_missing(
        "fatal: cannot change to '.cargo/advisory-dbs/advisory-db-3157b0e2': No such file or directory"
    ));
    let found = "error[unmaintained]: nobody looks after it\n = Announcement: rustsec/advisory-db/issues/1";
    assert!(!is_list_missing(found));
    assert!(!is_list_missing(&format!(
        "{found}, in the advisory database at .cargo/advisory-dbs/advisory-db-3157b0e2"
    )));
}
