//! Storms of interrupts from a network card (Intel 82574, datasheet 317694 §10.2.4) that interrupts whenever a register is written to.

use crate::access::Window;
use crate::dice::Dice;
use crate::function::{Function, functions};

const CARD: (u16, u16) = (0x8086, 0x10d3);
/// Registers in its first BAR: causes, set causes, set and clear the mask, and which MSI-X vector has which cause.
const ICR: usize = 0xc0;
const ICS: usize = 0xc8;
const IMS: usize = 0xd0;
const IMC: usize = 0xd8;
const IVAR: usize = 0xe4;
/// All causes that have a vector of their own.
const CAUSES: u64 = 0x01f0_0000;
/// Five vectors, one for each of them.
const ALLOCATED: u64 = 0x000c_ba98;

const INTX_DISABLE: u16 = 1 << 10;
const MSI: u8 = 5;
const MSIX: u8 = 0x11;
const MSIX_ENABLE: u64 = 1 << 15;
const MSIX_MASK: u64 = 1 << 14;
const ENTRY: usize = 16;

pub(crate) const IOAPIC: u64 = 0xfec0_0000;
/// The I/O APIC's registers: which one, its content, and the end of a vector's interrupt.
const SELECT: usize = 0;
const CONTENT: usize = 0x10;
const EOI: usize = 0x40;
const MASKED: u64 = 1 << 16;
const LEVEL: u64 = 1 << 15;
const LOGICAL: u64 = 1 << 11;
/// The CPU that gets nothing else done while a line stays asserted. Not the one that this runs on, which has to end it.
const VICTIM: u64 = 1;

/// How often the card interrupts in a round.
const KICKS: u64 = 6;

struct Card<'a> {
    function: &'a Function,
    registers: Window,
    ioapic: Window,
    /// Of the I/O APIC, as `_PRT` has it: `16 + (device + pin) % 8`, INTA being 0.
    pin: u64,
}

pub(crate) fn attack(seed: u64, rounds: u64) {
    let mut dice = Dice::new(seed);
    let functions = functions();
    let function = functions.iter().find(|function| function.identity == CARD).unwrap();
    function.command(0);
    let (registers, ioapic) = (function.bar(0), Window::map(IOAPIC, 0x1000));
    let pin = 16 + u64::from(function.device % 8);
    let card = Card { function, registers, ioapic, pin };
    card.registers.write(IVAR, 4, ALLOCATED);
    card.registers.write(IMS, 4, u32::MAX.into());
    for _ in 0..rounds {
        card.intx(&mut dice);
    }
    card.redirect(MASKED | 0x30, 0);
    for _ in 0..rounds {
        card.msi(&mut dice);
    }
    for _ in 0..rounds {
        card.msix(&mut dice);
    }
    card.registers.write(IMC, 4, u32::MAX.into());
    card.registers.write(ICR, 4, u32::MAX.into());
    println!("hostile: {rounds} rounds with INTx, MSI and MSI-X each");
}

impl Card<'_> {
    /// Interrupts, by causes that it did not have before.
    fn kick(&self, dice: &mut Dice) {
        self.registers.write(ICR, 4, u32::MAX.into());
        self.registers.write(ICS, 4, CAUSES | dice.any() & 0xff);
    }

    fn redirect(&self, low: u64, high: u64) {
        // Masked first: what it was is not to go where it will.
        for (half, value) in [(0, MASKED | vector_of(low)), (1, high), (0, low)] {
            self.ioapic.write(SELECT, 4, 0x10 + 2 * self.pin + half);
            self.ioapic.write(CONTENT, 4, value);
        }
    }

    /// The line stays asserted, and the I/O APIC is told something else again and again.
    fn intx(&self, dice: &mut Dice) {
        self.kick(dice);
        for _ in 0..KICKS {
            match dice.below(8) {
                0 => self.function.command(if dice.once_in(2) { INTX_DISABLE } else { 0 }),
                // The end of what is not there, or is not over.
                1 => self.ioapic.write(EOI, dice.one_of(&[1, 4]), vector(dice)),
                2 => self.kick(dice),
                _ => {
                    // Priority, polarity and remote IRR as it comes.
                    let entry = vector(dice) | dice.any() & 0x6100;
                    match dice.below(4) {
                        // Edges, to anybody, by whatever kind of name.
                        0 => self.redirect(entry | dice.any() & LOGICAL, dice.below(4) << 24),
                        1 => self.redirect(entry | LEVEL | MASKED, dice.below(4) << 24),
                        // Again and again, as soon as it is handled.
                        _ => self.redirect(entry | LEVEL, VICTIM << 24),
                    }
                }
            }
        }
    }

    fn msi(&self, dice: &mut Dice) {
        let at = self.function.capabilities(MSI)[0] as u64;
        for _ in 0..KICKS {
            let (address, data) = message(dice);
            // Data first: what was there before has no vector.
            self.function.set_config(at + 12, 2, data & 0xffff);
            self.function.set_config(at + 4, 4, address & 0xffff_ffff);
            self.function.set_config(at + 8, 4, address >> 32);
            self.function.set_config(at + 2, 2, u64::from(!dice.once_in(4)) | dice.below(8) << 4);
            self.kick(dice);
        }
        self.function.set_config(at + 2, 2, 0);
    }

    fn msix(&self, dice: &mut Dice) {
        let at = self.function.capabilities(MSIX)[0];
        let space = self.function.space();
        let count = usize::from(space[at + 2]) + 1;
        // Its table begins the BAR.
        let table = self.function.bar(usize::from(space[at + 4] & 7));
        let control = |bits: u64| self.function.set_config(at as u64 + 2, 2, bits);
        for vector in 0..count {
            set_message(table.part(vector * ENTRY, ENTRY), message(dice));
        }
        control(MSIX_ENABLE);
        for _ in 0..KICKS {
            let entry = table.part(dice.below(count as u64) as usize * ENTRY, ENTRY);
            match dice.below(6) {
                0 => control(dice.one_of(&[0, MSIX_MASK, MSIX_ENABLE, MSIX_ENABLE | MSIX_MASK])),
                1 | 2 => set_message(entry, message(dice)),
                _ => entry.write(12, 4, dice.below(2)),
            }
            self.kick(dice);
        }
        control(0);
    }
}

fn vector_of(entry: u64) -> u64 {
    entry & 0xff
}

/// Vectors that are for devices.
fn vector(dice: &mut Dice) -> u64 {
    0x30 + dice.below(0xb0)
}

/// An address, now and then not that of a local APIC, and data.
fn message(dice: &mut Dice) -> (u64, u64) {
    let address = match dice.below(8) {
        0 => dice.any(),
        1 => 0xfee0_0000 | dice.below(1 << 20),
        _ => 0xfee0_0000 | dice.below(4) << 12,
    };
    // Fixed or of lowest priority, edge or level.
    (address, vector(dice) | dice.any() & 0xffff_c100)
}

fn set_message(entry: Window, (address, data): (u64, u64)) {
    entry.write(8, 4, data & 0xffff_ffff);
    entry.write(0, 8, address);
    entry.write(12, 4, 0);
}
