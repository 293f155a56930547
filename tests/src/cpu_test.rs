use super::*;

#[test]
fn the_ticks_are_those_of_the_process_and_of_its_children() {
    let stat = "4711 (a) b) S 1 4711 4711 0 -1 4194304 100 200 0 0 1000 200 30 4 20 0 2 0 12345 99 1";
    assert_eq!(ticks(stat), 1234);
    assert_eq!(ticks(""), 0);
}

#[test]
fn a_command_is_charged_for_what_its_children_do() {
    let (output, used) = output(Command::new("sh").args([
        "-c",
        "sh -c 'while [ $((i += 1)) -lt 200000 ]; do :; done'; echo out; echo err >&2; exit 3",
    ]))
    .unwrap();
    assert_eq!(
        (output.status.code(), output.stdout.as_slice(), output.stderr.as_slice()),
        (Some(3), &b"out\n"[..], &b"err\n"[..])
    );
    assert!(used > Duration::from_millis(20), "{used:?}");
}
