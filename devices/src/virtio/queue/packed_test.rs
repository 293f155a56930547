use proptest::prelude::*;

use super::*;

#[test]
fn positions_go_round() {
    let mut position = Position::START;
    position.advance(3, 4);
    assert_eq!(position, Position { index: 3, wrap: true });
    position.advance(1, 4);
    assert_eq!(position, Position { index: 0, wrap: false });
    position.advance(4, 4);
    assert_eq!(position, Position { index: 0, wrap: true });
}

proptest! {
    /// An entry is passed if it is one of those that were just used, counted one by one.
    #[test]
    fn what_was_passed_is_found_by_arithmetic(
        size in 1_u16..=300, start: u16, wrap: bool, fresh: u16, event: u16,
    ) {
        let fresh = fresh % (size + 1);
        let start = Position { index: start % size, wrap };
        let (mut used, mut expected) = (start, false);
        for _ in 0..fresh {
            expected |= used.event() == event;
            used.advance(1, size);
        }
        prop_assert_eq!(passed(event, used, fresh, size), expected);
    }
}
