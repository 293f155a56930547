use proptest::prelude::*;

use super::*;

#[test]
fn a_guest_cannot_send_more_than_it_was_told_there_is_room_for() {
    let mut credit = Credit::default();
    assert!(credit.receive(ROOM));
    assert!(!credit.receive(1));
    assert!(!credit.is_worth_telling(), "there is no room");
    credit.forward(10);
    assert!(credit.is_worth_telling());
    assert_eq!(credit.tell(), (ROOM, 10));
    assert!(!credit.is_worth_telling(), "it knows");
    assert!(!credit.receive(11));
    assert!(credit.receive(10));
    assert!(!credit.receive(u32::MAX));
}

#[test]
fn nothing_is_sent_without_room_or_on_a_lie() {
    let mut credit = Credit::default();
    assert_eq!(credit.sendable(), 0);
    credit.heard(100, 0);
    credit.sent(60);
    assert_eq!(credit.sendable(), 40);
    credit.heard(100, 61);
    assert_eq!(credit.sendable(), 0, "more passed on than was sent");
    credit.heard(50, 0);
    assert_eq!(credit.sendable(), 0, "room taken back");
    credit.heard(u32::MAX, 60);
    assert_eq!(credit.sendable(), u32::MAX);
}

proptest! {
    /// A guest that keeps to what it was told always gets on, over wrapped counters as well.
    #[test]
    fn a_guest_that_waits_for_room_is_told(portions in proptest::collection::vec((1..=ROOM, 1..=ROOM), 1..400)) {
        let mut credit = Credit { received: u32::MAX - 1000, forwarded: u32::MAX - 1000, told: u32::MAX - 1000, ..Credit::default() };
        let (mut sent, mut known) = (u32::MAX - 1000, u32::MAX - 1000);
        for (send, pass) in portions {
            let free = ROOM - sent.wrapping_sub(known);
            let send = send.min(free);
            prop_assert!(credit.receive(send));
            sent = sent.wrapping_add(send);
            credit.forward(pass.min(credit.held()));
            if credit.is_worth_telling() {
                known = credit.tell().1;
            }
            prop_assert!(credit.held() > 0 || ROOM - sent.wrapping_sub(known) >= ROOM / 2, "it waits for ever");
        }
    }
}
