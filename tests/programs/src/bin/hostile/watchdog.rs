//! Garbage for a 6300ESB (datasheet 300641, chapter 16) whose timer runs, as short as can be and again and again, and means nothing.

use crate::dice::Dice;
use crate::function::{WATCHDOG, functions};

/// In configuration space: how fast it is, and that its end does not matter; whether it runs, and runs again.
const CONFIG: u64 = 0x60;
const NO_OUTPUT: u64 = 1 << 5;
const LOCK: u64 = 0x68;
const ENABLED: u64 = 1 << 1;
const FREE_RUNNING: u64 = 1 << 2;
/// In the BAR: both stages' preloads, and what reloads them.
const REGISTERS: [usize; 4] = [0, 4, 8, 0xc];
const RELOAD: usize = 0xc;

pub(crate) fn attack(seed: u64, count: u64) {
    let mut dice = Dice::new(seed);
    let functions = functions();
    let watchdog = functions.iter().find(|function| function.identity == WATCHDOG).unwrap();
    watchdog.command(0);
    let registers = watchdog.bar(0);
    for _ in 0..count {
        match dice.below(8) {
            0 => watchdog.set_config(CONFIG, 2, dice.any() & 0xffff | NO_OUTPUT),
            1 => watchdog.set_config(LOCK, 1, ENABLED | dice.any() & FREE_RUNNING),
            2 => watchdog.set_config(LOCK, 1, 0),
            // The one write that is heeded, of a short time now and then.
            3..6 => {
                registers.write(RELOAD, 2, 0x80);
                registers.write(RELOAD, 2, 0x86);
                let value = if dice.once_in(2) { dice.below(4) } else { dice.any() };
                registers.write(dice.one_of(&REGISTERS), 4, value & 0xffff_ffff);
            }
            _ => {
                let (offset, width) = (dice.below(0x1000 - 8) as usize, dice.one_of(&[1, 2, 4, 8]));
                registers.read(offset, width);
                registers.write(offset, width, dice.any());
            }
        }
    }
    watchdog.set_config(LOCK, 1, 0);
    println!("hostile: {count} registers of the watchdog");
}
