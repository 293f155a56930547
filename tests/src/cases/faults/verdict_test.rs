use super::*;

fn ended(status: i32, said: &str) -> Try {
    Try { point: 7, status, left: String::new(), said: said.to_owned() }
}

const REFUSAL: &str = "error: cannot do it\n  cause: Too many open files\n   help: raise it\n";

#[test]
fn a_start_goes_on_is_refused_or_is_killed() {
    assert_eq!(ended(0, "").survival(&[], false), Ok(Survival::WentOn));
    assert_eq!(ended(3, REFUSAL).survival(&[3, 4], false), Ok(Survival::Refused));
    assert_eq!(ended(137, "").survival(&[3], true), Ok(Survival::Killed));
}

#[test]
fn anything_else_is_lost() {
    for (status, said) in [
        (5, REFUSAL),
        (3, "error: cannot do it\n"),
        (137, ""),
        (134, "thread 'main' panicked at src/main.rs"),
        (0, "thread 'vcpu0' panicked at src/main.rs"),
        (3, "error: no\n   help: this should not happen: please report it\n"),
        (3, "memory allocation of 64 bytes failed\n   help: error: "),
    ] {
        assert!(ended(status, said).survival(&[3], false).is_err(), "{status}: {said}");
    }
    let leaves = Try { left: "4096 pages".to_owned(), ..ended(0, "") };
    assert_eq!(leaves.survival(&[], false), Err("at 7: left behind: 4096 pages: ".to_owned()));
}

#[test]
fn tries_are_read_as_they_were_written() {
    let tries = read("noise\n@ 12 3 \n|error: no\n|  help: yes\n@ 13 0 2 pages stay pinned\n@ broken\n");
    assert_eq!(tries.len(), 3);
    assert_eq!(
        tries.first(),
        Some(&Try { point: 12, status: 3, left: String::new(), said: "error: no\n  help: yes\n".to_owned() })
    );
    assert_eq!(tries.get(1).map(|it| it.left.as_str()), Some("2 pages stay pinned"));
    assert_eq!(tries.last().map(|it| it.status), Some(-1));
}
