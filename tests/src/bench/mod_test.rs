use std::cell::RefCell;

use super::*;
use crate::host::HostError;

#[test]
fn one_that_fails_keeps_none_from_running() {
    let failed =
        || Error::Host(HostError::Errand { errand: "true".into(), status: 1, stderr: String::new() });
    for broken in Bench::value_variants() {
        for outcome in [Some(ExitCode::FAILURE), None] {
            let ran = RefCell::new(Vec::new());
            let code = each(Bench::value_variants(), |bench| {
                ran.borrow_mut().push(bench);
                if bench == *broken { outcome.ok_or_else(failed) } else { Ok(ExitCode::SUCCESS) }
            });
            assert_eq!(code, ExitCode::FAILURE, "{broken:?}");
            assert_eq!(*ran.borrow(), Bench::value_variants());
        }
    }
    assert_eq!(each(Bench::value_variants(), |_| Ok(ExitCode::SUCCESS)), ExitCode::SUCCESS);
}

#[test]
fn names_are_those_that_are_typed() {
    for bench in Bench::value_variants() {
        assert_eq!(Bench::from_str(bench.name(), false), Ok(*bench));
    }
}
