use super::*;
use crate::bytes::MIB;
use crate::pin::kernel::Host;
use crate::pin::{HelperCommand, PinOptions};
use crate::{AddressLimits, GuestRam, Layout};

/// What comes of asking for trial pins where all helpers are this shell script: who takes them, and why not others.
fn chosen(helper: &str) -> (Option<Pinner>, Vec<String>) {
    let ram = GuestRam::new(&Layout::new(16 * MIB, &AddressLimits::cpu_only(46)).unwrap()).unwrap();
    let command = HelperCommand { program: "/bin/sh".into(), arguments: vec!["-c".into(), helper.into()] };
    let options = PinOptions { helper: Some(command), ..PinOptions::default() };
    let host = Host::new(&ram, &options);
    let stop = AtomicBool::new(false);
    let mut pinners = Pinners::new(&host, 2 * MIB, &stop);
    let chosen = pinners.trial().map(|(_, pinner)| pinner);
    (chosen, pinners.passed_over().to_vec())
}

#[test]
fn what_a_filter_kills_is_not_tried_here() {
    let (pinner, passed_over) = chosen("kill -SYS $$");
    assert_eq!((pinner, passed_over.len()), (None, 3), "{passed_over:?}");
    assert!(
        passed_over[..2].iter().all(|it| it.ends_with("was killed by a seccomp filter")),
        "{passed_over:?}"
    );
    assert!(passed_over[2].starts_with("io_uring is not risked in this process: pid "), "{passed_over:?}");
}

#[test]
fn what_dies_otherwise_is_tried_here() {
    let (pinner, passed_over) = chosen("kill -KILL $$");
    assert!(passed_over[..2].iter().all(|it| it.ends_with("was killed by signal 9")), "{passed_over:?}");
    // Where io_uring is to be had at all.
    assert!(pinner == Some(Pinner::OwnIoUring) || passed_over[2].contains("io_uring is "), "{passed_over:?}");
}

#[test]
fn what_does_not_start_is_given_up_and_not_tried_here() {
    let (pinner, passed_over) = chosen("kill -STOP $$");
    assert_eq!((pinner, passed_over.len()), (None, 3), "{passed_over:?}");
    let given_up = |it: &String| it.contains(": pid ") && it.contains(" did not answer for ");
    assert!(passed_over.iter().all(given_up), "{passed_over:?}");
}
