use super::*;

#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("cannot open the door")]
#[diagnostic(help("turn the key\nor ring"))]
struct Door(#[source] std::io::Error);

#[test]
fn a_problem_is_one_cause_a_line_and_its_remedy() {
    assert_eq!(
        text("error", &Door(std::io::Error::from_raw_os_error(libc::ENOENT))),
        "error: cannot open the door\n  cause: No such file or directory (os error 2)\n   help: turn the key\n         or ring\n"
    );
}

#[test]
fn nothing_steers_the_terminal() {
    assert_eq!(printable("a\nb\u{1b}[2J\u{9b}c\r\té"), "a\nb\\u{1b}[2J\\u{9b}c\\r\\té");
}
