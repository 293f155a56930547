//! The gate in the orders in which its threads can run (loom), with the very code that runs guests.

mod sync {
    pub(super) use loom::sync::atomic::{AtomicBool, Ordering};
    pub(super) use loom::sync::{Condvar, Mutex, MutexGuard};
}

use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::thread;

use super::ending::{self, End, Ending};
use gate::Gate;

#[path = "gate.rs"]
#[expect(dead_code, clippy::duplicate_mod, reason = "the same code, on other primitives")]
mod gate;

/// A vCPU: the model complains if two have it at one time.
type Own = (usize, UnsafeCell<u64>);

const VCPUS: usize = 2;
/// How often a thread is interrupted where it does not wait. More finds nothing new and takes long.
const PREEMPTIONS: usize = 2;

/// Tries all orders of what `does` does with what vCPUs do that come to the gate at any time.
fn in_any_order(
    does: impl Fn(&Gate<Own>, &Ending) + Sync + Send + 'static,
    closed: bool,
    sums: [u64; VCPUS],
) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(PREEMPTIONS);
    model.check(move || {
        let gate = Arc::new(Gate::new(VCPUS).unwrap());
        let ending = Arc::new(Ending::new().unwrap());
        if closed {
            gate.close();
        }
        let threads = [0, 1].map(|index| {
            let (gate, ending) = (gate.clone(), ending.clone());
            thread::spawn(move || {
                let own = gate.pass((index, UnsafeCell::new(0)), |own| own.0, &ending);
                assert_eq!(own.0, index);
                add(&own, 1);
                own.1.into_inner()
            })
        });
        does(&gate, &ending);
        assert_eq!(threads.map(|thread| thread.join().unwrap()), sums);
    });
}

#[expect(unsafe_code, reason = "the cell is what the model watches")]
fn add(own: &Own, number: u64) {
    // SAFETY: whoever has the vCPU has it alone, which is what the model checks.
    own.1.with_mut(|value| unsafe { *value += number });
}

#[test]
fn who_closes_has_all_of_them_alone_and_nobody_is_left_waiting() {
    let does = |gate: &Gate<Own>, _: &Ending| {
        while gate.with_all(|all| all.iter().for_each(|own| add(own, 10))).is_none() {
            thread::yield_now();
        }
        gate.open();
    };
    in_any_order(does, true, [11, 11]);
}

#[test]
fn a_gate_that_opens_at_once_lets_all_through() {
    let does = |gate: &Gate<Own>, _: &Ending| {
        gate.close();
        gate.open();
    };
    in_any_order(does, false, [1, 1]);
}

#[test]
fn an_end_sets_everybody_free_whenever_they_come() {
    let does = |gate: &Gate<Own>, ending: &Ending| {
        gate.close();
        ending.end(End::Stopped("over"));
        gate.wake();
    };
    in_any_order(does, false, [1, 1]);
}
