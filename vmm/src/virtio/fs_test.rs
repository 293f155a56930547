use super::*;
use crate::virtio::served::connect;

fn fs(tag: &str) -> FsSpec {
    FsSpec { socket: "/nonexistent/socket".into(), tag: tag.to_owned(), queues: 1, queue_size: 1024 }
}

#[test]
fn everything_wrong_is_found_before_daemons_are_asked() {
    let long = "t".repeat(37);
    let odd = FsSpec { queues: 65, queue_size: 1000, ..fs(&long) };
    let expected = [
        FsSpecError::Tag(long.clone()),
        FsSpecError::Queues { tag: long.clone(), queues: 65 },
        FsSpecError::QueueSize { tag: long.clone(), size: 1000 },
        FsSpecError::SameTag(long.clone()),
    ];
    assert_eq!(check(&odd, &[fs(&long)]), expected);
    assert!(odd.wanted().is_none());
    for sensible in [fs("home"), fs(&"t".repeat(36)), FsSpec { queues: 64, queue_size: 16, ..fs("t") }] {
        assert_eq!(check(&sensible, &[fs("other")]), []);
    }
    for tag in ["", "a\0b"] {
        assert_eq!(check(&fs(tag), &[]), [FsSpecError::Tag(tag.to_owned())]);
    }
}

#[test]
fn daemons_that_cannot_be_had_are_each_reported() {
    let mut problems = Problems::default();
    let wanted = ["one", "other"].into_iter().filter_map(|tag| fs(tag).wanted());
    assert!(connect(wanted, &mut problems).is_empty());
    let said: Vec<String> = problems.0.iter().map(|problem| problem.what.to_string()).collect();
    assert_eq!(said, ["there is no socket /nonexistent/socket"; 2]);
    assert_eq!(problems.exit_code(), Class::Host as u8);
}
