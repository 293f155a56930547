use std::sync::Arc;

use super::*;

/// The kernel's rules: a set grows only if it is resizable, and never past what the host has left.
struct FakeIrqs {
    count: u32,
    resizable: bool,
    limit: u32,
    calls: Mutex<Vec<String>>,
    enabled: Mutex<u32>,
}

impl SetIrqs for Arc<FakeIrqs> {
    fn count(&self) -> u32 {
        self.count
    }

    fn resizable(&self) -> bool {
        self.resizable
    }

    fn set(&self, start: u32, triggers: &[RawFd]) -> io::Result<()> {
        let wired: String = triggers.iter().map(|fd| if *fd < 0 { '-' } else { 'x' }).collect();
        self.calls.lock().unwrap().push(format!("{start}:{wired}"));
        let end = start + triggers.len() as u32;
        let mut enabled = self.enabled.lock().unwrap();
        if end > self.limit || *enabled != 0 && !self.resizable && end > *enabled {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        *enabled = end.max(*enabled);
        Ok(())
    }

    fn disable(&self) -> io::Result<()> {
        self.calls.lock().unwrap().push("off".into());
        *self.enabled.lock().unwrap() = 0;
        Ok(())
    }

    fn owner(&self) -> String {
        "0000:01:00.0".into()
    }
}

fn setup(count: u32, resizable: bool, limit: u32) -> (Vectors<Arc<FakeIrqs>>, Arc<FakeIrqs>) {
    let irqs =
        Arc::new(FakeIrqs { count, resizable, limit, calls: Mutex::default(), enabled: Mutex::default() });
    (Vectors::new(irqs.clone()), irqs)
}

fn trigger() -> EventFd {
    EventFd::new(libc::EFD_NONBLOCK).unwrap()
}

fn calls(irqs: &FakeIrqs) -> Vec<String> {
    std::mem::take(&mut irqs.calls.lock().unwrap())
}

#[test]
fn a_resizable_set_grows_by_what_is_used() {
    let (vectors, irqs) = setup(2048, true, 2048);
    vectors.connect(&[(7, &trigger())]).unwrap();
    vectors.connect(&[(0, &trigger())]).unwrap();
    vectors.connect(&[(2047, &trigger())]).unwrap();
    assert_eq!(calls(&irqs), ["0:-", "7:x", "0:x", "2047:x"]);
    vectors.disconnect_all();
    vectors.disconnect_all();
    assert_eq!(calls(&irqs), ["off"]);
}

#[test]
fn the_capability_is_on_before_a_vector_is_used() {
    for resizable in [true, false] {
        let (vectors, irqs) = setup(4, resizable, 4);
        vectors.enable().unwrap();
        vectors.enable().unwrap();
        assert_eq!(calls(&irqs), ["0:-"]);
        vectors.connect(&[(0, &trigger())]).unwrap();
        assert_eq!(calls(&irqs), ["0:x"]);
        vectors.disconnect_all();
        assert_eq!(calls(&irqs), ["off"]);
    }
}

#[test]
fn a_fixed_set_doubles_and_loses_no_interrupt() {
    let (vectors, irqs) = setup(5, false, 5);
    let triggers: Vec<EventFd> = (0..5).map(|_| trigger()).collect();
    for (vector, trigger) in (0..).zip(&triggers) {
        vectors.connect(&[(vector, trigger)]).unwrap();
    }
    assert_eq!(calls(&irqs), ["0:x", "off", "0:xx", "off", "0:xxx-", "3:x", "off", "0:xxxxx"]);
    let raised: Vec<bool> = triggers.iter().map(|trigger| trigger.read().is_ok()).collect();
    assert_eq!(raised, [true, true, true, true, false]);
}

#[test]
fn what_worked_keeps_working_when_the_host_has_no_more() {
    let (vectors, irqs) = setup(4, false, 1);
    vectors.connect(&[(0, &trigger())]).unwrap();
    assert!(vectors.connect(&[(1, &trigger())]).is_err());
    assert_eq!(calls(&irqs), ["0:x", "off", "0:xx", "0:x"]);
    vectors.disconnect_all();
    assert_eq!(calls(&irqs), ["off"]);
}

#[test]
fn a_vector_the_device_has_not_is_refused() {
    let (vectors, irqs) = setup(4, true, 4);
    assert!(vectors.connect(&[(4, &trigger())]).is_err());
    assert_eq!(calls(&irqs), Vec::<String>::new());
}

#[test]
fn vectors_unmasked_together_are_wired_together() {
    let (vectors, irqs) = setup(2048, true, 2048);
    let triggers: Vec<EventFd> = (0..5).map(|_| trigger()).collect();
    let batch: Vec<(u16, &EventFd)> = [0, 1, 2, 7, 8].into_iter().zip(&triggers).collect();
    vectors.connect(&batch).unwrap();
    assert_eq!(calls(&irqs), ["0:-", "0:xxx", "7:xx"]);

    let (vectors, irqs) = setup(32, false, 32);
    vectors.connect(&batch).unwrap();
    assert_eq!(calls(&irqs), ["0:xxx----xx-------"]);
    assert!(triggers.iter().all(|trigger| trigger.read().is_err()), "nothing was enabled that could be lost");
    vectors.connect(&[(3, &triggers[0]), (4, &triggers[1])]).unwrap();
    assert_eq!(calls(&irqs), ["3:xx"]);
    vectors.connect(&[]).unwrap();
    assert_eq!(calls(&irqs), Vec::<String>::new());
}

#[test]
fn a_batch_that_fails_can_be_wired_one_by_one() {
    let (vectors, irqs) = setup(8, false, 2);
    let triggers: Vec<EventFd> = (0..3).map(|_| trigger()).collect();
    let batch: Vec<(u16, &EventFd)> = (0..).zip(&triggers).collect();
    assert!(vectors.connect(&batch).is_err());
    let alone: Vec<bool> = batch.iter().map(|one| vectors.connect(&[*one]).is_ok()).collect();
    assert_eq!(alone, [true, true, false]);
    assert_eq!(calls(&irqs), ["0:xxx-", "0:x", "off", "0:xx", "off", "0:xxx-", "0:xx"]);
}
