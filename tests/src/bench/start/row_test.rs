use super::*;

fn sample(first: f64, exit: f64) -> Sample {
    Sample { first, exit, user: 0.5, system: 1.0 }
}

#[test]
fn times_are_medians_and_compared_with_those_of_the_bare_calls() {
    let bare = Row::new("bare", None, Ok(vec![sample(1.0, 2.0)]), Err("none".to_owned()), None);
    assert_eq!((bare.exit_of_bare, bare.trouble.as_deref()), (None, Some("none")));
    let starts = vec![sample(3.0, 5.0), sample(90.0, 91.0), sample(2.0, 4.0)];
    let row = Row::new("vmm", Some(1), Ok(starts), Err("none".to_owned()), Some(&bare));
    assert_eq!((row.first_instruction_of_bare, row.exit_of_bare), (Some(3.0), Some(2.5)));
    assert_eq!(row.cpu.map(|cpu| cpu.median), Some(1.5));
}

#[test]
fn a_contender_that_cannot_start_has_a_row_that_says_why() {
    let row = Row::new("QEMU", None, Err("no such file".to_owned()), Err("no such file".to_owned()), None);
    let lines = row.lines();
    assert!(lines.ends_with("\n    no such file"), "{lines}");
    assert!(lines.starts_with("QEMU "), "{lines}");
}
