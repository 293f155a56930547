use std::io::{self, Write};
use std::sync::Arc;

use tracing_subscriber::layer::SubscriberExt;

use super::*;

#[test]
fn a_burst_passes_and_then_one_in_a_while_which_says_how_many_did_not() {
    let start = Instant::now();
    let mut kind = Kind::new(start);
    for _ in 0..BURST {
        assert_eq!(kind.admit(start), Some(0));
    }
    for _ in 0..7 {
        assert_eq!(kind.admit(start + REFILL / 2), None);
    }
    assert_eq!(kind.admit(start + REFILL), Some(7));
    assert_eq!(kind.admit(start + REFILL), None);
    assert_eq!(kind.admit(start + REFILL * 2), Some(1));
    // After a long silence there may be another burst, and no more.
    let later = start + REFILL * 1000;
    assert_eq!((0..100).filter(|_| kind.admit(later).is_some()).count(), BURST as usize);
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn each_kind_is_counted_by_itself_and_debugging_not_at_all() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(Level::DEBUG)
        .with_writer(move || writer.clone())
        .finish()
        .with(Sparing::new(LogFormat::Text));
    tracing::subscriber::with_default(subscriber, || {
        for _ in 0..100 {
            tracing::warn!("one");
            tracing::debug!("two");
        }
        tracing::error!("three");
    });
    let said = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let counted = ["one", "two", "three"].map(|word| said.matches(word).count());
    assert_eq!(counted, [BURST as usize, 100, 1]);
}
