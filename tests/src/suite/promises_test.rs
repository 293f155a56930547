use super::*;

#[test]
fn tests_that_passed_are_known_by_their_names() {
    let output = "running 3 tests\ntest a::b::tests::it_is_so ... ok\ntest it_is ... ok\ntest c::it_is_not ... FAILED\n\
        test c::it_waits ... ignored\n\ntest result: FAILED. 2 passed; 1 failed\n";
    assert_eq!(passed(output).collect::<Vec<_>>(), ["it_is_so", "it_is"]);
}

#[test]
fn what_did_not_run_is_not_shown() {
    let all: BTreeSet<String> = named().map(str::to_owned).collect();
    assert!(all.len() > 30, "{all:?}");
    assert_eq!(unshown(&all), [""; 0]);
    let (one, rest): (BTreeSet<_>, BTreeSet<_>) =
        all.into_iter().partition(|name| name == "passthrough/nothing stays behind");
    assert_eq!(unshown(&rest), one.iter().map(String::as_str).collect::<Vec<_>>());
}
