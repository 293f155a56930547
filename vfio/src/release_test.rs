use std::cell::Cell;

use super::*;

const PATH: &str = "/dev/vfio/12";

/// Fails with `error` until it was called `times` times; gives the result and how often it was called.
fn opened(times: u32, is_passing: bool, patience: Duration) -> (Result<u32, &'static str>, u32) {
    let calls = Cell::new(0);
    let open = || {
        calls.set(calls.get() + 1);
        if calls.get() > times { Ok(12) } else { Err("busy") }
    };
    let result = when_released(Path::new(PATH), open, |error| *error == "busy" && is_passing, patience);
    (result, calls.get())
}

#[test]
fn what_is_free_is_opened_at_once() {
    assert_eq!(opened(0, true, RELEASE), (Ok(12), 1));
}

#[test]
fn what_nobody_holds_is_waited_for() {
    assert_eq!(opened(3, true, RELEASE), (Ok(12), 4));
}

#[test]
fn what_somebody_holds_is_not_waited_for() {
    assert_eq!(opened(3, false, RELEASE), (Err("busy"), 1));
}

#[test]
fn patience_has_an_end() {
    let (result, calls) = opened(u32::MAX, true, AGAIN * 4);
    assert_eq!(result, Err("busy"));
    assert!((2..=4).contains(&calls), "{calls} calls");
}
