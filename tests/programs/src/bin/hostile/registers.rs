//! Garbage for whatever has an address.

use std::fs;

use crate::access::{Window, open_ports, read_port, write_port};
use crate::dice::Dice;
use crate::function::{Function, PVPANIC, WATCHDOG, functions};
use crate::interrupts::IOAPIC;

/// Reset of the keyboard controller; sleep and reset of ACPI.
const SPARED: [u16; 4] = [0x64, 0x600, 0x601, 0x602];
/// Turns the watchdog on, in its configuration space.
const WATCHDOG_LOCK: u32 = 0x68;
const COM1: u16 = 0x3f8;
/// Of the serial port: interrupts, format, modem control. Garbage there takes the console away.
const CONSOLE: [u16; 3] = [COM1 + 1, COM1 + 3, COM1 + 4];

pub(crate) fn attack(seed: u64, count: u64) {
    let mut dice = Dice::new(seed);
    open_ports();
    let kept = CONSOLE.map(|port| (port, read_port(port, 1)));
    let map = fs::read_to_string("/proc/iomem").unwrap();
    let ecam = map.lines().find(|line| line.contains("ECAM") || line.contains("MMCONFIG")).unwrap();
    let ecam = u64::from_str_radix(ecam.trim().split('-').next().unwrap(), 16).unwrap();
    let functions = functions();
    // Of devices of the host's the BARs are left alone: they would do as they are told, to this guest's kernel.
    let emulated = functions.iter().filter(|function| function.is_emulated());
    let mut windows: Vec<Window> = emulated.flat_map(spared).collect();
    windows.extend([Window::map(ecam, 1 << 20), Window::map(IOAPIC, 0x1000)]);
    for _ in 0..count {
        let width = dice.one_of(&[1, 2, 4]);
        match dice.below(8) {
            0 | 1 => {
                let port = dice.one_of(&[COM1, 0x70, 0x71, 0xcf8, 0xcfc, 0x603]);
                let port = if dice.once_in(2) { port } else { dice.any() as u16 };
                if !(port..=port.saturating_add(3)).any(|touched| SPARED.contains(&touched)) {
                    let _ = read_port(port, width);
                    write_port(port, width, dice.any() as u32);
                }
            }
            2..4 => {
                // A register of one of the first functions, as any firmware would.
                let device = dice.below(functions.len() as u64 + 2);
                let register = dice.below(256) as u32;
                let watchdog =
                    functions.iter().any(|it| it.identity == WATCHDOG && u64::from(it.device) == device);
                if watchdog && register & 0xfc == WATCHDOG_LOCK {
                    continue;
                }
                write_port(0xcf8, 4, 1 << 31 | (device as u32) << 11 | register & 0xfc);
                let port = 0xcfc + (register & 3) as u16;
                let before = read_port(port, width);
                let bit = 1_u32 << dice.below(32);
                write_port(port, width, if dice.once_in(2) { dice.any() as u32 } else { before ^ bit });
            }
            _ => {
                let window = dice.one_of(&windows);
                let width = dice.one_of(&[1, 2, 4, 8]);
                let aligned = dice.below((window.size / 8) as u64) as usize * 8;
                let offset = aligned + if dice.once_in(4) { dice.below(8) as usize } else { 0 };
                if offset + width <= window.size {
                    window.read(offset, width);
                    window.write(offset, width, dice.any());
                }
            }
        }
    }
    for (port, value) in kept {
        write_port(port, 1, value);
    }
    println!("hostile: {count} registers");
}

/// The BARs of a function, but for the register by which the kernel says that it panics.
fn spared(function: &Function) -> Vec<Window> {
    let first = if function.identity == PVPANIC { 8 } else { 0 };
    let whole = function.bars.iter().map(|(_, start, size)| Window::map(*start, *size));
    whole.map(|bar| bar.part(first, bar.size - first)).collect()
}
