use vmm_sys_util::eventfd::EFD_NONBLOCK;

use super::*;
use crate::eventfd::is_signalled;

fn eventfd() -> EventFd {
    EventFd::new(EFD_NONBLOCK).unwrap()
}

#[test]
fn a_queue_raises_the_vector_chosen_for_it() {
    let interrupts = Interrupts::new("test".to_owned(), 2);
    let (first, second) = (eventfd(), eventfd());
    interrupts.connect(&[(1, &first), (2, &second)]).unwrap();
    let notifier = Notifier::new(&interrupts);
    notifier.queue_used(1);
    assert!(!is_signalled(&first) && !is_signalled(&second), "no vector was chosen");
    assert_eq!(interrupts.set_queue_vector(1, 2), 2);
    assert_eq!(interrupts.set_queue_vector(0, 3), NO_VECTOR, "there is no vector 3");
    notifier.queue_used(1);
    notifier.queue_used(0);
    assert!(!is_signalled(&first) && is_signalled(&second));
    assert_eq!((interrupts.take_isr(), interrupts.take_isr()), (ISR_QUEUE, 0));
}

#[test]
fn what_is_raised_before_it_is_connected_is_pending_and_made_up_for() {
    let interrupts = Interrupts::new("test".to_owned(), 1);
    interrupts.set_queue_vector(0, 1);
    Notifier::new(&interrupts).queue_used(0);
    assert_eq!(interrupts.pending(0), 0b10);
    let vector = eventfd();
    interrupts.connect(&[(1, &vector)]).unwrap();
    assert!(is_signalled(&vector));
    assert_eq!(interrupts.pending(0), 0);
    interrupts.disconnect_all();
    vector.read().unwrap();
    Notifier::new(&interrupts).queue_used(0);
    assert!(!is_signalled(&vector));
}

#[test]
fn whoever_raises_a_queue_outside_knows_what_to_signal() {
    let interrupts = Interrupts::new("test".to_owned(), 1);
    let told = Arc::<Mutex<Option<EventFd>>>::default();
    let hears = told.clone();
    let notifier = Notifier::new(&interrupts);
    let guard = notifier.raised_outside(0, move |eventfd| {
        *hears.lock().unwrap() = Some(eventfd.try_clone().unwrap());
    });
    let guard = guard.unwrap();
    let signal = || told.lock().unwrap().as_ref().unwrap().write(1).unwrap();
    // No vector is chosen, then it is masked: signals collect, and are pending.
    signal();
    interrupts.set_queue_vector(0, 1);
    signal();
    assert_eq!(interrupts.pending(0), 0b10);
    let vector = eventfd();
    interrupts.connect(&[(1, &vector)]).unwrap();
    assert_eq!((vector.read().unwrap(), interrupts.pending(0)), (1, 0), "what has collected is raised once");
    signal();
    assert_eq!(vector.read().unwrap(), 1, "it is raised without us");
    // Another vector, not connected yet, then MSI-X is turned off and on again.
    interrupts.set_queue_vector(0, 0);
    signal();
    assert!(!is_signalled(&vector) && interrupts.pending(0) == 1);
    interrupts.set_queue_vector(0, 1);
    assert_eq!(vector.read().unwrap(), 1);
    interrupts.disconnect_all();
    signal();
    assert!(!is_signalled(&vector), "its vector is closed");
    let other = eventfd();
    interrupts.connect(&[(1, &other)]).unwrap();
    assert_eq!(other.read().unwrap(), 1);
    drop(guard);
    interrupts.set_queue_vector(0, 0);
    signal();
    assert_eq!(other.read().unwrap(), 1, "nothing is told any more");
}

#[test]
fn a_broken_device_says_so_once_until_it_is_reset() {
    let interrupts = Interrupts::new("test".to_owned(), 1);
    let vector = eventfd();
    interrupts.connect(&[(0, &vector)]).unwrap();
    interrupts.set_config_vector(0);
    let notifier = Notifier::new(&interrupts);
    notifier.broken(&io::Error::other("no"));
    notifier.broken(&io::Error::other("no"));
    assert!(interrupts.is_broken());
    assert_eq!((vector.read().unwrap(), interrupts.generation()), (1, 1));
    assert_eq!(interrupts.take_isr(), ISR_CONFIG);
    interrupts.reset();
    assert!(!interrupts.is_broken());
}
