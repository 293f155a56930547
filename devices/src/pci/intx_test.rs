use super::*;

#[test]
fn registers_name_the_four_pins() {
    assert_eq!(
        [0, 1, 4, 5, 255].map(InterruptPin::from_register),
        [None, Some(InterruptPin::A), Some(InterruptPin::D), None, None]
    );
    for pin in InterruptPin::ALL {
        assert_eq!(InterruptPin::from_register(pin.register()), Some(pin));
    }
    assert_eq!(InterruptPin::B.to_string(), "INTB#");
}

#[test]
fn pins_are_spread_evenly_and_stay_in_their_range() {
    let mut used = [0; 24];
    for device in 0..32 {
        for pin in InterruptPin::ALL {
            used[usize::from(pin.ioapic_pin(device))] += 1;
        }
    }
    assert_eq!((used[..16].iter().sum::<i32>(), &used[16..]), (0, &[16; 8][..]));
    assert_eq!([0, 1, 8, 31].map(|device| InterruptPin::A.ioapic_pin(device)), [16, 17, 16, 23]);
    const { assert!(crate::ioapic::PINS >= FIRST_PIN + PINS) };
}
