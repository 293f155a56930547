use super::*;

#[test]
fn messages_are_as_the_specification_has_them() {
    assert_eq!(there(2), [2, 0, 0, 0, 1, 0, 1, 0]);
    assert_eq!(console(0), [0, 0, 0, 0, 4, 0, 1, 0]);
    assert_eq!(name(1, "a.0"), [1, 0, 0, 0, 7, 0, 1, 0, b'a', b'.', b'0']);
    assert_eq!((open(1, true), open(1, false)), (vec![1, 0, 0, 0, 6, 0, 1, 0], vec![1, 0, 0, 0, 6, 0, 0, 0]));
    assert_eq!(size(0, 80, 24), [0, 0, 0, 0, 5, 0, 0, 0, 80, 0, 24, 0]);
}

#[test]
fn what_the_driver_says_is_understood_or_passed_over() {
    assert_eq!(Said::of([9, 9, 9, 9, 0, 0, 1, 0]), Said::Ready);
    assert_eq!(Said::of([3, 0, 0, 0, 3, 0, 1, 0]), Said::PortReady(3));
    assert_eq!(Said::of([0, 0, 0, 0x80, 6, 0, 1, 0]), Said::Open(0x8000_0000, true));
    assert_eq!(Said::of([1, 0, 0, 0, 6, 0, 0, 0]), Said::Open(1, false));
    for nothing in [[0, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 3, 0, 0, 0], [0; 8].map(|_: u8| 0xff)] {
        assert_eq!(Said::of(nothing), Said::Nothing);
    }
}

#[test]
fn a_topic_is_noted_once_and_told_in_order() {
    let mut untold = Untold::default();
    for _ in 0..1000 {
        untold.note(1, Topic::Open);
        untold.note(0, Topic::There);
    }
    assert_eq!(untold.next(), Some((1, Topic::Open)));
    untold.told();
    untold.note(1, Topic::Open);
    assert_eq!(untold.0, [(0, Topic::There), (1, Topic::Open)]);
}
