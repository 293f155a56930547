use super::*;

#[test]
fn takes_what_the_program_says_and_nothing_of_a_load_that_failed() {
    assert_eq!(took("go\r\nrequests: 100 in 2500\r\nready-for-a-load\r\n"), Some((100.0, 2500.0)));
    assert_eq!(took("requests: connection refused\r\nthe-load-failed\r\n"), None);
    assert_eq!(took("ready-for-a-load\r\n"), None);
}
