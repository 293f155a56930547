use proptest::prelude::*;

use super::*;

fn at(time: Duration) -> Rtc {
    Rtc::with_clock(Box::new(move || time))
}

fn get(rtc: &Rtc, index: u8) -> u8 {
    assert_eq!(rtc.write(0, &[index]), Action::None);
    let mut data = [0];
    rtc.read(1, &mut data);
    data[0]
}

fn set(rtc: &Rtc, index: u8, value: u8) {
    assert_eq!(rtc.write(0, &[index]), Action::None);
    assert_eq!(rtc.write(1, &[value]), Action::None);
}

/// Century, year, month, day, hours, minutes, seconds and day of the week, as read in BCD.
fn shown(seconds: u64) -> [u8; 8] {
    let rtc = at(Duration::from_secs(seconds));
    [CENTURY, YEAR, MONTH, DAY_OF_MONTH, HOURS, MINUTES, SECONDS, DAY_OF_WEEK].map(|index| get(&rtc, index))
}

#[test]
fn shows_known_times() {
    assert_eq!(shown(0), [0x19, 0x70, 0x01, 0x01, 0x00, 0x00, 0x00, 0x05]);
    assert_eq!(shown(951_782_399), [0x20, 0x00, 0x02, 0x28, 0x23, 0x59, 0x59, 0x02]);
    assert_eq!(shown(951_782_400), [0x20, 0x00, 0x02, 0x29, 0x00, 0x00, 0x00, 0x03]);
    assert_eq!(shown(1_795_330_245), [0x20, 0x26, 0x11, 0x22, 0x06, 0x50, 0x45, 0x01]);
    assert_eq!(shown(4_107_542_400), [0x21, 0x00, 0x03, 0x01, 0x00, 0x00, 0x00, 0x02]);
}

#[test]
fn says_when_it_is_about_to_change() {
    let a = |nanos| get(&at(Duration::new(5, nanos)), STATUS_A);
    assert_eq!([a(0), a(500_000_000), a(997_000_000)], [0x26; 3]);
    assert_eq!([a(998_500_000), a(999_999_999)], [0xa6; 2]);
}

#[test]
fn is_a_bcd_clock_of_24_hours_with_a_good_battery() {
    let rtc = at(Duration::ZERO);
    assert_eq!((get(&rtc, STATUS_B), get(&rtc, STATUS_C), get(&rtc, STATUS_D)), (0x02, 0, 0x80));
    set(&rtc, STATUS_B, 0x84);
    assert_eq!(get(&rtc, STATUS_B), 0x82, "neither binary nor 12 hours");
    set(&rtc, STATUS_A, 0xff);
    assert_eq!(get(&rtc, STATUS_A), 0x26, "an update is never stuck");
}

#[test]
fn keeps_memory_and_not_the_time() {
    let rtc = at(Duration::ZERO);
    set(&rtc, YEAR, 0x99);
    set(&rtc, 0x0f, 0x0a);
    set(&rtc, 0xff, 0x42);
    assert_eq!((get(&rtc, YEAR), get(&rtc, 0x0f), get(&rtc, 0x7f)), (0x70, 0x0a, 0x42));
    let mut both = [0; 2];
    rtc.read(0, &mut both);
    assert_eq!(both, [0xff, 0x42]);
    assert_eq!(rtc.write(0, &[0x20, 0x33]), Action::None);
    assert_eq!(get(&rtc, 0x20), 0x33, "a word sets index and data");
}

#[test]
fn the_host_clock_is_after_2020() {
    let rtc = Rtc::new();
    assert!(get(&rtc, CENTURY) >= 0x20 && get(&rtc, YEAR) >= 0x20);
}

proptest! {
    /// Each day follows the one before by the calendar's rules.
    #[test]
    fn the_calendar_advances_by_its_rules(days in 0u64..3_000_000) {
        let (year, month, day) = civil(days);
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let length = match month { 2 => 28 + u64::from(leap), 4 | 6 | 9 | 11 => 30, _ => 31 };
        prop_assert!((1..=12).contains(&month) && (1..=length).contains(&day));
        let next = if day < length { (year, month, day + 1) }
            else if month < 12 { (year, month + 1, 1) }
            else { (year + 1, 1, 1) };
        prop_assert_eq!(civil(days + 1), next);
    }

    #[test]
    fn any_access_is_safe(time: u64, index: u8, value: u8) {
        let rtc = at(Duration::from_secs(time));
        set(&rtc, index, value);
        get(&rtc, index);
    }
}
