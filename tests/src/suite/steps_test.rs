use super::*;

#[test]
fn every_unit_test_counts() {
    let output = "running 2 tests\ntest result: ok. 12 passed; 0 failed; 1 ignored; 0 measured\n\
                  test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured\n";
    assert_eq!(by_tests(false, output), Verdict { passed: 15, failed: 2, remark: None });
}

#[test]
fn tests_that_do_not_compile_are_a_failure() {
    assert_eq!(by_tests(false, ""), Verdict { passed: 0, failed: 1, remark: None });
}

#[test]
fn two_versions_of_a_shared_crate_are_named() {
    let output = "bitflags v1.3.2\nbitflags v2.13.2\n\nvm-memory v0.17.1\n\nvm-memory v0.18.0 (*)\nvm-memory v0.18.0\n";
    let verdict = no_duplicates(true, output);
    assert_eq!(verdict.failed, 1);
    assert_eq!(verdict.remark.as_deref(), Some("vm-memory in versions 0.17.1 and 0.18.0"));
    assert_eq!(no_duplicates(true, "syn v2.0.1\nsyn v3.0.1\nvm-memory v0.18.0\n").failed, 0);
}
