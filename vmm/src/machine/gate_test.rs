use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use super::ending::{End, Ending};
use super::gate::Gate;

/// Threads that count in turns until the run has ended.
struct Bench {
    gate: Arc<Gate<(usize, u64)>>,
    ending: Arc<Ending>,
    rounds: Arc<AtomicU32>,
    threads: Vec<thread::JoinHandle<(usize, u64)>>,
}

impl Bench {
    fn new(count: usize) -> Self {
        let gate = Arc::new(Gate::new(count).unwrap());
        let ending = Arc::new(Ending::new().unwrap());
        let rounds = Arc::new(AtomicU32::new(0));
        let threads = (0..count)
            .map(|index| {
                let (gate, ending, rounds) = (gate.clone(), ending.clone(), rounds.clone());
                thread::spawn(move || {
                    let mut own = (index, 0);
                    while !ending.is_over() {
                        own = gate.pass(own, |own| own.0, &ending);
                        assert_eq!(own.0, index);
                        own.1 += 1;
                        rounds.fetch_add(1, Ordering::SeqCst);
                        thread::yield_now();
                    }
                    own
                })
            })
            .collect();
        Self { gate, ending, rounds, threads }
    }

    fn close_and_wait(&self) {
        self.gate.close();
        while self.gate.with_all(|_| ()).is_none() {
            thread::yield_now();
        }
    }

    fn end(self) -> Vec<(usize, u64)> {
        self.ending.end(End::Stopped("over"));
        self.gate.wake();
        self.threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    }
}

#[test]
fn nobody_moves_while_all_are_inside() {
    let bench = Bench::new(4);
    for _ in 0..200 {
        bench.close_and_wait();
        let before = bench.rounds.load(Ordering::SeqCst);
        let sum = bench.gate.with_all(|all| {
            thread::yield_now();
            all.iter().map(|own| own.1).sum::<u64>()
        });
        assert_eq!(sum, Some(u64::from(before)));
        assert_eq!(bench.rounds.load(Ordering::SeqCst), before);
        bench.gate.open();
        while bench.rounds.load(Ordering::SeqCst) == before {
            thread::yield_now();
        }
    }
    assert_eq!(bench.end().len(), 4);
}

#[test]
fn the_last_to_come_is_told_of() {
    let bench = Bench::new(3);
    assert!(bench.gate.settled().read().is_err());
    bench.close_and_wait();
    // Whoever comes last tells before the gate's lock is free again.
    assert_eq!(bench.gate.settled().read().unwrap(), 1);
    bench.gate.open();
    bench.end();
}

#[test]
fn a_gate_closed_again_at_once_is_told_of_as_well() {
    let bench = Bench::new(3);
    for _ in 0..200 {
        bench.gate.close();
        while bench.gate.settled().read().is_err() {
            thread::yield_now();
        }
        bench.gate.open();
    }
    bench.end();
}

#[test]
fn an_end_sets_everybody_free() {
    let bench = Bench::new(2);
    bench.close_and_wait();
    let mut indices: Vec<usize> = bench.end().into_iter().map(|own| own.0).collect();
    indices.sort_unstable();
    assert_eq!(indices, [0, 1]);
}

#[test]
fn changes_made_inside_are_taken_out() {
    let bench = Bench::new(2);
    bench.close_and_wait();
    bench.gate.with_all(|all| all.iter_mut().for_each(|own| own.1 += 1_000_000));
    assert!(bench.end().iter().all(|own| own.1 > 1_000_000));
}
