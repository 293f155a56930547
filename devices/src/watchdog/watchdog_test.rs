use super::*;

fn watchdog() -> Watchdog {
    Watchdog::new(Arc::default()).unwrap()
}

fn reload(watchdog: &Watchdog, value: u16) {
    for word in [0x80, 0x86, value] {
        let _ = watchdog.bar_write(0, RELOAD, &word.to_le_bytes());
    }
}

/// Both stages take a millisecond.
fn shorten(watchdog: &Watchdog) {
    for offset in PRELOADS {
        for word in [0x80_u16, 0x86] {
            let _ = watchdog.bar_write(0, RELOAD, &word.to_le_bytes());
        }
        let _ = watchdog.bar_write(0, offset, &1_u32.to_le_bytes());
    }
}

fn config(watchdog: &Watchdog, at: u16) -> u8 {
    let mut byte = [0];
    watchdog.config_read(at, &mut byte);
    byte[0]
}

/// Waits for the end of a stage.
fn wait(watchdog: &Watchdog) -> bool {
    let mut state = lock(&watchdog.state);
    assert_eq!(state.alarm.as_raw_fd(), watchdog.event());
    assert!(state.alarm.is_armed().unwrap());
    state.alarm.wait().unwrap();
    drop(state);
    watchdog.look()
}

#[test]
fn it_is_found_as_what_it_is() {
    let mut identity = [0; 4];
    watchdog().config_read(0, &mut identity);
    assert_eq!(identity, [0x86, 0x80, 0xab, 0x25]);
    assert_eq!(watchdog().bars().len(), 1);
}

#[test]
fn a_guest_that_does_not_reload_it_is_out_of_time_after_both_stages() {
    let watchdog = watchdog();
    shorten(&watchdog);
    let _ = watchdog.config_write(LOCK, &[LOCK_ENABLED]);
    assert!(!wait(&watchdog), "the first stage");
    reload(&watchdog, RELOAD_BEGIN);
    assert!(!wait(&watchdog), "the first stage again");
    assert!(wait(&watchdog));
    // The guest that runs then can see it, until it has seen it.
    let next = Watchdog::new(watchdog.has_expired.clone()).unwrap();
    let seen = || {
        let mut word = [0; 2];
        next.bar_read(0, RELOAD, &mut word);
        u16::from_le_bytes(word)
    };
    assert_eq!(seen(), RELOAD_EXPIRED);
    let _ = next.bar_write(0, RELOAD, &(1_u16 << 9).to_le_bytes());
    assert_eq!(seen(), RELOAD_EXPIRED, "without the keys");
    reload(&next, 1 << 9);
    assert_eq!(seen(), 0);
}

#[test]
fn without_output_it_only_counts_and_again_if_it_is_to() {
    let watchdog = watchdog();
    shorten(&watchdog);
    let _ = watchdog.config_write(CONFIG, &[0x23, 0]);
    assert_eq!(config(&watchdog, CONFIG), 0x23);
    let _ = watchdog.config_write(LOCK, &[LOCK_ENABLED | LOCK_FREE_RUNNING]);
    for _ in 0..4 {
        assert!(!wait(&watchdog));
    }
}

#[test]
fn what_is_locked_stays() {
    let watchdog = watchdog();
    let _ = watchdog.config_write(LOCK, &[LOCK_ENABLED]);
    assert!(lock(&watchdog.state).timer.is_on());
    let _ = watchdog.config_write(LOCK, &[0]);
    assert!(!lock(&watchdog.state).timer.is_on());
    let _ = watchdog.config_write(LOCK, &[LOCK_ENABLED | LOCK_LOCKED]);
    let _ = watchdog.config_write(LOCK, &[0]);
    assert_eq!(config(&watchdog, LOCK), LOCK_ENABLED | LOCK_LOCKED);
    assert!(lock(&watchdog.state).timer.is_on());
}

#[test]
fn a_paused_guest_has_no_time_that_could_be_up() {
    let watchdog = watchdog();
    shorten(&watchdog);
    watchdog.stand_still();
    let _ = watchdog.config_write(LOCK, &[LOCK_ENABLED]);
    assert_eq!(lock(&watchdog.state).timer.left(Instant::now()), None);
    assert!(!watchdog.look());
    watchdog.go_on();
    assert!(!wait(&watchdog));
    assert!(wait(&watchdog));
}

#[test]
fn other_accesses_are_no_harm() {
    let watchdog = watchdog();
    for offset in [0, 1, 4, 8, 0xc, 0xd, 0xe, 0x10, 0xfff] {
        for length in [1, 2, 4, 8] {
            for _ in 0..3 {
                let _ = watchdog.bar_write(0, offset, &vec![0xff; length]);
                watchdog.bar_read(0, offset, &mut vec![0; length]);
            }
        }
    }
    for offset in (0..4096).step_by(4) {
        let _ = watchdog.config_write(offset, &[0xff; 4]);
    }
}
