use miette::Diagnostic;
use vmm::Class;

use super::*;

#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("cannot open the door")]
#[diagnostic(help("turn the key\nor ring"))]
struct Door(#[source] std::io::Error);

#[test]
fn a_problem_is_one_cause_a_line_and_its_remedy() {
    let problem = Problem::new(Class::Host, Door(std::io::Error::from_raw_os_error(libc::ENOENT)));
    assert_eq!(
        text(&problem),
        "error: cannot open the door\n  cause: No such file or directory (os error 2)\n   help: turn the key\n         or ring\n"
    );
}
