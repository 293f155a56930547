//! The slot of a root port: its hot-plug registers, and the card in it (PCIe base 6.0 §6.7 and §7.5.3.8 to §7.5.3.11).
//!
//! The slot has an attention button, a power controller, an attention and a power indicator, and no latch. Cards may
//! come and go by surprise. Pure: whoever owns it raises the interrupt and resets the functions, as [`Effects`] says.

/// Slot control: the attention button may interrupt.
const BUTTON_ENABLE: u16 = 1 << 0;
/// Slot control: cards that come and go may interrupt.
const PRESENCE_ENABLE: u16 = 1 << 3;
/// Slot control: completed commands may interrupt.
const COMMAND_ENABLE: u16 = 1 << 4;
/// Slot control: hot-plug events interrupt at all.
const INTERRUPT_ENABLE: u16 = 1 << 5;
const ATTENTION_INDICATOR_SHIFT: u16 = 6;
const POWER_INDICATOR_SHIFT: u16 = 8;
const INDICATOR_MASK: u16 = 0b11;
const INDICATOR_ON: u16 = 0b01;
const INDICATOR_BLINKS: u16 = 0b10;
const INDICATOR_OFF: u16 = 0b11;
/// Slot control: the power is off.
const POWER_OFF: u16 = 1 << 10;
/// Slot control: changes of the link's state may interrupt.
const LINK_ENABLE: u16 = 1 << 12;
/// Enables of what cannot happen here, power faults and the latch, are kept, too.
const CONTROL_WRITABLE: u16 = 0x17ff;

/// Slot status: the attention button was pressed.
const BUTTON: u16 = 1 << 0;
/// Slot status: a card came or went.
const PRESENCE: u16 = 1 << 3;
/// Slot status: a write to slot control has taken effect.
const COMMAND: u16 = 1 << 4;
/// Slot status: there is a card. The only bit that is a state and no event.
const PRESENT: u16 = 1 << 6;
/// Slot status: the link came up or went down.
const LINK: u16 = 1 << 8;

/// Which enable lets which event interrupt.
const ENABLES: [(u16, u16); 4] =
    [(BUTTON_ENABLE, BUTTON), (PRESENCE_ENABLE, PRESENCE), (COMMAND_ENABLE, COMMAND), (LINK_ENABLE, LINK)];

/// Slot capabilities, less the slot's number in the bits from [`NUMBER_SHIFT`] on: attention button, power controller,
/// both indicators, surprise removal, hot-plug.
pub(super) const CAPABILITIES: u32 = 0b111_1011;
/// Where the slot's number is in its capabilities.
pub(super) const NUMBER_SHIFT: u32 = 19;

/// What is in the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Card {
    None,
    Present,
    /// The guest was asked to let go of it.
    Leaving,
    /// Gone for the guest; whoever put it there has not taken it yet.
    Gone,
}

/// What a change asks of the port.
#[must_use]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Effects {
    /// Send the port's interrupt.
    pub(super) interrupt: bool,
    /// The link went down: the functions of the card are reset.
    pub(super) reset: bool,
}

/// What a guest makes of the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotState {
    /// The card in it answers.
    pub linked: bool,
    /// It has asked to be told of the attention button.
    pub listening: bool,
    /// It lets the slot have power.
    pub powered: bool,
    /// Its power indicator blinks: it is about to change that.
    pub blinking: bool,
}

/// The slot.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    control: u16,
    /// The events in the status register that have not been cleared.
    events: u16,
    card: Card,
    link_disabled: bool,
    /// The button was pressed while the guest did not listen: it is pressed again when it does.
    unheard: bool,
    /// Some enabled event has not been cleared, so that there is no new interrupt.
    interrupting: bool,
}

impl Slot {
    /// The slot as after power-on: one with a card has power.
    pub(super) fn new(occupied: bool) -> Self {
        let (power, indicator, card) = match occupied {
            true => (0, INDICATOR_ON, Card::Present),
            false => (POWER_OFF, INDICATOR_OFF, Card::None),
        };
        let control = power | indicator << POWER_INDICATOR_SHIFT | INDICATOR_OFF << ATTENTION_INDICATOR_SHIFT;
        Self { control, events: 0, card, link_disabled: false, unheard: false, interrupting: false }
    }

    /// The control register.
    pub(super) fn control(&self) -> u16 {
        self.control
    }

    /// The status register.
    pub(super) fn status(&self) -> u16 {
        self.events | if self.is_present() { PRESENT } else { 0 }
    }

    /// Whether the card answers.
    pub(super) fn link_is_up(&self) -> bool {
        self.is_present() && self.control & POWER_OFF == 0 && !self.link_disabled
    }

    /// Whether a card can be put in.
    pub(super) fn is_empty(&self) -> bool {
        self.card == Card::None
    }

    /// Whether the card that was in it can be taken away.
    pub(super) fn is_gone(&self) -> bool {
        self.card == Card::Gone
    }

    /// What the guest makes of the slot.
    pub(super) fn state(&self) -> SlotState {
        SlotState {
            linked: self.link_is_up(),
            listening: self.listens(),
            powered: self.control & POWER_OFF == 0,
            blinking: self.power_indicator() == INDICATOR_BLINKS,
        }
    }

    /// The guest writes the control register, which is a command, carried out at once.
    pub(super) fn write_control(&mut self, value: u16) -> Effects {
        self.change(|slot| {
            slot.control = value & CONTROL_WRITABLE;
            slot.events |= COMMAND;
            if slot.unheard && slot.listens() {
                slot.press_button();
            }
            // The indicator tells that the card can be pulled. Linux waits for a second in between, and misses cards
            // that come in that second.
            let released = slot.control & POWER_OFF != 0 && slot.power_indicator() == INDICATOR_OFF;
            if slot.card == Card::Leaving && released {
                slot.card = Card::Gone;
            }
        })
    }

    /// The guest writes ones to the status register.
    pub(super) fn clear_events(&mut self, events: u16) -> Effects {
        self.change(|slot| slot.events &= !events)
    }

    /// The guest disables or enables the link.
    pub(super) fn disable_link(&mut self, disabled: bool) -> Effects {
        self.change(|slot| slot.link_disabled = disabled)
    }

    /// A card is put in, if there is none, and the button pressed for a guest that waits for that: where there is a
    /// button, Linux listens to nothing else, and with both at once it does not wait for a second press. A guest that does
    /// not listen yet will see the card when it starts to.
    pub(super) fn insert(&mut self) -> Effects {
        self.change(|slot| {
            if slot.is_empty() {
                slot.card = Card::Present;
                if slot.listens() && slot.control & POWER_OFF != 0 {
                    slot.press_button();
                }
            }
        })
    }

    /// Asks the guest to let go of the card. One that has no power goes at once.
    pub(super) fn ask_to_leave(&mut self) -> Effects {
        self.change(|slot| match slot.card {
            Card::Present if slot.link_is_up() => {
                slot.card = Card::Leaving;
                slot.press_button();
            }
            Card::Present => slot.card = Card::Gone,
            Card::None | Card::Leaving | Card::Gone => {}
        })
    }

    /// The card stays, whatever the guest was asked.
    pub(super) fn let_stay(&mut self) {
        if self.card == Card::Leaving {
            self.card = Card::Present;
        }
        self.unheard = false;
    }

    /// The card is pulled without asking.
    pub(super) fn pull(&mut self) -> Effects {
        self.change(|slot| {
            if slot.is_present() {
                slot.card = Card::Gone;
            }
        })
    }

    /// The card that is gone was taken away.
    pub(super) fn vacate(&mut self) {
        if self.is_gone() {
            self.card = Card::None;
        }
        self.unheard = false;
    }

    fn is_present(&self) -> bool {
        matches!(self.card, Card::Present | Card::Leaving)
    }

    fn power_indicator(&self) -> u16 {
        self.control >> POWER_INDICATOR_SHIFT & INDICATOR_MASK
    }

    fn listens(&self) -> bool {
        self.control & (INTERRUPT_ENABLE | BUTTON_ENABLE) == INTERRUPT_ENABLE | BUTTON_ENABLE
    }

    fn press_button(&mut self) {
        self.events |= BUTTON;
        self.unheard = !self.listens();
    }

    /// Does `what`, and lets the events follow from it.
    fn change(&mut self, what: impl FnOnce(&mut Self)) -> Effects {
        let (was_present, was_up) = (self.is_present(), self.link_is_up());
        what(self);
        if self.is_present() != was_present {
            self.events |= PRESENCE;
        }
        if self.link_is_up() != was_up {
            self.events |= LINK;
        }
        let enabled = |(enable, event): &(u16, u16)| self.control & enable != 0 && self.events & event != 0;
        let interrupting = self.control & INTERRUPT_ENABLE != 0 && ENABLES.iter().any(enabled);
        let already = std::mem::replace(&mut self.interrupting, interrupting);
        Effects { interrupt: interrupting && !already, reset: was_up && !self.link_is_up() }
    }
}

#[cfg(test)]
#[path = "slot_test.rs"]
mod tests;
