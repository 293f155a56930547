use std::thread;

use super::*;

/// Answers `count` requests as a machine would, on another thread.
fn machine(requests: Requests, count: usize) -> thread::JoinHandle<Requests> {
    thread::spawn(move || {
        for _ in 0..count {
            match requests.queue.recv().unwrap() {
                Request::AddDevice(host, reply) => reply.send(Ok(DevicePlace { host, guest: host })),
                Request::Pause(reply) => reply.send(Ok(())),
                Request::Nmi(reply) => drop(reply),
                other => panic!("{other:?}"),
            }
        }
        requests
    })
}

#[test]
fn answers_reach_whoever_asked() {
    let (control, requests) = channel().unwrap();
    let machine = machine(requests, 16);
    thread::scope(|scope| {
        for device in 0..16_u8 {
            let control = control.clone();
            scope.spawn(move || {
                let address = format!("00:{device:02x}.0").parse::<PciAddress>().unwrap();
                let place = control.add_device(address).unwrap();
                assert_eq!(place, DevicePlace { host: address, guest: address });
            });
        }
    });
    let requests = machine.join().unwrap();
    assert_eq!(requests.wake.read().unwrap(), 16);
}

#[test]
fn what_is_dropped_is_over() {
    let (control, requests) = channel().unwrap();
    let requests = machine(requests, 1);
    assert!(matches!(control.nmi(), Err(ControlError::Over)));
    drop(requests.join().unwrap());
    assert!(matches!(control.pause(), Err(ControlError::Over)));
}

#[test]
fn a_request_in_the_queue_of_a_machine_that_ends_is_over() {
    let (control, requests) = channel().unwrap();
    let asking = thread::spawn(move || control.info().map(drop));
    // Readable once the request is in the queue.
    while requests.wake.read().is_err() {
        thread::yield_now();
    }
    drop(requests);
    assert!(matches!(asking.join().unwrap(), Err(ControlError::Over)));
}

#[test]
fn an_answer_nobody_waits_for_is_no_harm() {
    let (reply, answer) = mpsc::sync_channel(1);
    drop(answer);
    Reply(reply).send(Ok(()));
}
