use std::sync::mpsc;
use std::time::Duration;

use vmm_sys_util::signal::{Killable, SIGRTMIN, register_signal_handler};

use super::*;
use crate::virtio::testing::wait_for;

/// Tells of each kick, and counts them.
struct Counter {
    kick: EventFd,
    seen: u64,
    heard: mpsc::Sender<u64>,
}

impl MutEventSubscriber for Counter {
    fn process(&mut self, _: Events, _: &mut EventOps) {
        self.seen += self.kick.read().unwrap();
        self.heard.send(self.seen).unwrap();
    }

    fn init(&mut self, ops: &mut EventOps) {
        ops.add(Events::new(&self.kick, EventSet::IN)).unwrap();
    }
}

#[test]
fn a_worker_serves_events_until_it_is_stopped_and_gives_back_what_it_served() {
    let kick = EventFd::new(EFD_NONBLOCK).unwrap();
    let (heard, hear) = mpsc::channel();
    let worker = Worker::start("test", Counter { kick: kick.try_clone().unwrap(), seen: 0, heard }).unwrap();
    for round in 1..=3 {
        kick.write(1).unwrap();
        assert_eq!(hear.recv_timeout(Duration::from_secs(60)), Ok(round));
    }
    let counter = worker.stop().unwrap();
    assert_eq!(counter.seen, 3);
    drop(counter);
    assert!(hear.recv().is_err(), "the thread is still there");
    kick.write(1).unwrap();
    wait_for(&kick);
}

#[test]
fn a_worker_whose_wait_is_interrupted_says_so() {
    extern "C" fn nothing(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}
    let signal = SIGRTMIN() + 1;
    register_signal_handler(signal, nothing).unwrap();
    let kick = EventFd::new(EFD_NONBLOCK).unwrap();
    let (heard, hear) = mpsc::channel();
    let interrupted = |counter: &mut Counter| counter.heard.send(u64::MAX).unwrap();
    let worker = Worker::start_with("test", Counter { kick, seen: 0, heard }, interrupted).unwrap();
    // A signal that comes before it waits interrupts nothing.
    let said = (0..6000).find_map(|_| {
        worker.thread.as_ref().unwrap().kill(signal).unwrap();
        hear.recv_timeout(Duration::from_millis(10)).ok()
    });
    assert_eq!(said, Some(u64::MAX));
    worker.stop().unwrap();
}
