use proptest::prelude::*;

use super::*;

/// All enables: button, power fault, latch, presence, command, hot-plug, link.
const ALL_ENABLES: u16 = 0x103f;
const POWER_ON: u16 = 0x0100;
const POWER_BLINKING: u16 = 0x0200;
const POWER_OFF_INDICATED: u16 = 0x0300;
const QUIET: Effects = Effects { interrupt: false, reset: false };
const INTERRUPT: Effects = Effects { interrupt: true, reset: false };

/// A slot that a guest's driver has taken over, nothing pending.
fn driven(occupied: bool) -> Slot {
    let mut slot = Slot::new(occupied);
    let _ = slot.write_control(ALL_ENABLES | slot.control());
    let _ = slot.clear_events(u16::MAX);
    slot
}

#[test]
fn the_registers_after_power_on() {
    let empty = Slot::new(false);
    assert_eq!((empty.control(), empty.status(), empty.link_is_up()), (0x07c0, 0, false), "no power");
    let full = Slot::new(true);
    assert_eq!((full.control(), full.status(), full.link_is_up()), (0x01c0, 0x0040, true));
    // Attention button, power controller, attention indicator, power indicator, surprise, hot-plug capable; no latch,
    // no interlock, and commands complete with an event.
    assert_eq!(CAPABILITIES, 0x7b);
}

#[test]
fn a_card_that_comes_is_an_event_and_gets_its_link_with_the_power() {
    let mut slot = driven(false);
    assert_eq!(slot.insert(), INTERRUPT);
    assert_eq!((slot.status(), slot.link_is_up()), (0x0049, false), "the button as well");
    assert_eq!(slot.clear_events(0x0009), QUIET);
    assert_eq!(slot.write_control(ALL_ENABLES | POWER_ON), INTERRUPT);
    assert_eq!((slot.status(), slot.link_is_up()), (0x0150, true), "link changed, command completed");
    assert!(!slot.is_empty());
    assert_eq!(slot.insert(), QUIET, "there is one");
}

#[test]
fn a_guest_that_listens_to_nothing_but_the_button_hears_of_a_card() {
    // As Linux, button, commands, hot-plug, link.
    const BUTTON_INSTEAD_OF_PRESENCE: u16 = 0x1031;
    let mut slot = Slot::new(false);
    let _ = slot.write_control(BUTTON_INSTEAD_OF_PRESENCE | slot.control());
    let _ = slot.clear_events(u16::MAX);
    assert_eq!((slot.insert(), slot.status()), (INTERRUPT, 0x0049));
    let mut later = Slot::new(false);
    assert_eq!((later.insert(), later.status()), (QUIET, 0x0048), "nobody listens");
    let _ = later.clear_events(u16::MAX);
    let _ = later.write_control(BUTTON_INSTEAD_OF_PRESENCE | later.control());
    assert_eq!(later.status(), 0x0050, "it sees the card; a press would be for the card to leave");
}

#[test]
fn a_card_leaves_when_the_power_is_off_and_says_so() {
    let mut slot = driven(true);
    assert_eq!(slot.ask_to_leave(), INTERRUPT);
    assert_eq!(slot.status(), 0x0041, "the button was pressed");
    assert_eq!(slot.ask_to_leave(), QUIET, "once is enough");
    let _ = slot.clear_events(0x0001);
    assert_eq!(slot.write_control(ALL_ENABLES | POWER_BLINKING), INTERRUPT);
    assert_eq!(slot.state(), SlotState { linked: true, listening: true, powered: true, blinking: true });
    let _ = slot.clear_events(u16::MAX);
    let off = slot.write_control(ALL_ENABLES | POWER_BLINKING | POWER_OFF);
    assert_eq!((off, slot.status()), (Effects { interrupt: true, reset: true }, 0x0150));
    assert!(!slot.is_gone(), "not yet");
    let _ = slot.clear_events(u16::MAX);
    assert_eq!(slot.write_control(ALL_ENABLES | POWER_OFF_INDICATED | POWER_OFF), INTERRUPT);
    assert_eq!((slot.status(), slot.is_gone()), (0x0018, true));
    assert_eq!(slot.insert(), QUIET, "nobody has taken it yet");
    slot.vacate();
    assert!(slot.is_empty());
}

#[test]
fn without_power_a_card_leaves_at_once() {
    let mut slot = driven(true);
    let _ = slot.write_control(ALL_ENABLES | POWER_OFF_INDICATED | POWER_OFF);
    let _ = slot.clear_events(u16::MAX);
    assert!(!slot.is_gone(), "a guest that switches a slot off keeps its card");
    assert_eq!(slot.ask_to_leave(), INTERRUPT);
    assert_eq!((slot.status(), slot.is_gone()), (0x0008, true), "no button, and no link to lose");
}

#[test]
fn the_power_comes_back_to_the_same_card() {
    let mut slot = driven(true);
    assert!(slot.write_control(ALL_ENABLES | POWER_OFF_INDICATED | POWER_OFF).reset);
    assert!(!slot.write_control(ALL_ENABLES | POWER_ON).reset);
    assert!(slot.link_is_up());
}

#[test]
fn a_card_that_stays_after_all_does_not_leave_later() {
    let mut slot = driven(true);
    let _ = slot.ask_to_leave();
    slot.let_stay();
    let _ = slot.write_control(ALL_ENABLES | POWER_OFF_INDICATED | POWER_OFF);
    assert!(!slot.is_gone() && slot.status() & 0x0040 != 0);
}

#[test]
fn a_pulled_card_takes_its_link_with_it() {
    let mut slot = driven(true);
    assert_eq!(slot.pull(), Effects { interrupt: true, reset: true });
    assert_eq!((slot.status(), slot.is_gone()), (0x0108, true));
    slot.vacate();
    let _ = slot.clear_events(u16::MAX);
    assert_eq!(slot.pull(), QUIET);
    assert_eq!(slot.insert(), INTERRUPT, "the power is still on");
    assert_eq!((slot.status(), slot.link_is_up()), (0x0148, true));
}

#[test]
fn a_button_that_nobody_heard_is_pressed_again_for_who_listens() {
    let mut slot = Slot::new(true);
    assert_eq!(slot.ask_to_leave(), QUIET);
    // A driver clears what was before it, and then enables what it wants to hear of.
    let _ = slot.clear_events(u16::MAX);
    assert_eq!(slot.status(), 0x0040);
    assert_eq!(slot.write_control(ALL_ENABLES | POWER_ON), INTERRUPT);
    assert_eq!(slot.status(), 0x0051);
    // It was heard now. Pressed once more it would mean the opposite.
    let _ = slot.clear_events(u16::MAX);
    let _ = slot.write_control(POWER_ON);
    let _ = slot.clear_events(u16::MAX);
    let _ = slot.write_control(ALL_ENABLES | POWER_ON);
    assert_eq!(slot.status(), 0x0050);
}

#[test]
fn a_disabled_link_is_down_and_resets_the_card() {
    let mut slot = driven(true);
    assert_eq!(slot.disable_link(true), Effects { interrupt: true, reset: true });
    assert_eq!((slot.status(), slot.link_is_up()), (0x0140, false));
    let _ = slot.clear_events(u16::MAX);
    assert_eq!(slot.disable_link(false), INTERRUPT);
    assert!(slot.link_is_up());
}

#[test]
fn each_event_interrupts_only_where_it_is_enabled() {
    for (enable, event, cause) in [
        (0x0001, 0x0001, Slot::ask_to_leave as fn(&mut Slot) -> Effects),
        (0x0008, 0x0008, Slot::pull),
        (0x1000, 0x0100, Slot::pull),
        (0x0010, 0x0010, |slot| slot.write_control(slot.control())),
    ] {
        for (control, interrupt) in
            [(0x20 | enable, true), (enable, false), (0x103f & !enable & !0x10, false)]
        {
            let mut slot = Slot::new(true);
            let _ = slot.write_control(control | POWER_ON);
            let _ = slot.clear_events(u16::MAX);
            // Other events of the same cause are not enabled with it.
            let others = control & !enable & 0x1009 != 0 && enable != 0x0001;
            let effects = cause(&mut slot);
            assert!(slot.status() & event != 0);
            assert!(others || effects.interrupt == interrupt, "{enable:#x} {control:#x}");
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Control(u16),
    Clear(u16),
    Link(bool),
    Insert,
    Ask,
    Stay,
    Pull,
    Vacate,
}

fn step() -> impl Strategy<Value = Step> {
    let control = prop_oneof![
        any::<u16>(),
        Just(ALL_ENABLES | POWER_ON),
        Just(ALL_ENABLES | POWER_OFF_INDICATED | POWER_OFF)
    ];
    prop_oneof![
        4 => control.prop_map(Step::Control),
        4 => any::<u16>().prop_map(Step::Clear),
        1 => any::<bool>().prop_map(Step::Link),
        2 => Just(Step::Insert),
        2 => Just(Step::Ask),
        1 => Just(Step::Stay),
        1 => Just(Step::Pull),
        2 => Just(Step::Vacate),
    ]
}

proptest! {
    /// Whatever guest and host do: an interrupt comes exactly when enabled events appear where there were none, what
    /// changes has its event, the functions are reset whenever the link goes, and a card that has left cannot answer.
    #[test]
    fn the_rules_hold(occupied: bool, steps in prop::collection::vec(step(), 0..80)) {
        let mut slot = Slot::new(occupied);
        let wants = |slot: &Slot| {
            let (control, status) = (slot.control(), slot.status());
            let enabled = control & 0x1f & status & 0x1f | control >> 4 & status & 0x100;
            control & 0x20 != 0 && enabled != 0
        };
        for step in steps {
            let before = slot.clone();
            let effects = match step {
                Step::Control(value) => slot.write_control(value),
                Step::Clear(events) => slot.clear_events(events),
                Step::Link(disabled) => slot.disable_link(disabled),
                Step::Insert => slot.insert(),
                Step::Ask => slot.ask_to_leave(),
                Step::Stay => { slot.let_stay(); QUIET }
                Step::Pull => slot.pull(),
                Step::Vacate => { slot.vacate(); QUIET }
            };
            prop_assert_eq!(effects.interrupt, wants(&slot) && !wants(&before));
            prop_assert_eq!(effects.reset, before.link_is_up() && !slot.link_is_up());
            let changed = |bit: u16| (before.status() ^ slot.status()) & bit != 0;
            if changed(PRESENT) { prop_assert!(slot.status() & PRESENCE != 0); }
            if before.link_is_up() != slot.link_is_up() { prop_assert!(slot.status() & LINK != 0); }
            prop_assert_eq!(slot.status() & !0x0159, 0);
            prop_assert_eq!(slot.control() & !0x17ff, 0);
            if slot.is_gone() || slot.is_empty() {
                prop_assert!(!slot.link_is_up() && slot.status() & PRESENT == 0);
            }
        }
    }
}
