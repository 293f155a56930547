//! A guest's root that means harm. What it does follows from its seed.
//!
//! - `hostile rings SEED ROUNDS MEMORY`: is the driver of every virtio function, each time anew and each time a bad one: features
//!   that were not asked for, queues of any size anywhere, rings of garbage that change while they are read, notifications of
//!   queues that are not there. Its rings and buffers are in the 4 MiB at the physical address MEMORY, which the kernel has to leave
//!   alone (`memmap=4M$MEMORY`), or nowhere at all, so that the kernel survives. Drivers are to be unbound.
//! - `hostile interrupts SEED ROUNDS`: has an Intel 82574 interrupt without end by INTx, MSI and MSI-X, acknowledges nothing, and
//!   changes meanwhile where interrupts go to and whether they do. Its driver is to be unbound. Vectors are those that the kernel has no
//!   use for, so that it survives. To be run on the first of two CPUs: the second one is kept busy.
//! - `hostile watchdog SEED COUNT`: so many reads and writes of the registers of a 6300ESB, which runs, but never resets the machine.
//! - `hostile drive MEMORY`: has an NVMe drive write to the 4 MiB at that address, which the kernel leaves alone, and says whether it did.
//!   Its driver is to be unbound.
//! - `hostile registers SEED COUNT`: so many reads and writes of ports, configuration space, BARs, ECAM and the IOAPIC, at any offset
//!   and of any width. It spares what only ends or resets the machine.
#![expect(clippy::panic, clippy::print_stdout, clippy::unwrap_used, reason = "a test program")]
#![expect(clippy::indexing_slicing, reason = "a test program")]

mod access;
mod dice;
mod drive;
mod function;
mod interrupts;
mod registers;
mod rings;
mod watchdog;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse().unwrap();
    let hex = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap();
    match words[..] {
        ["rings", seed, rounds, memory] => {
            rings::attack(number(seed), number(rounds), hex(memory));
        }
        ["drive", memory] => drive::reach(hex(memory)),
        ["interrupts", seed, rounds] => interrupts::attack(number(seed), number(rounds)),
        ["watchdog", seed, count] => watchdog::attack(number(seed), number(count)),
        ["registers", seed, count] => registers::attack(number(seed), number(count)),
        _ => panic!(
            "hostile rings SEED ROUNDS MEMORY | hostile drive MEMORY | hostile interrupts|watchdog|registers SEED COUNT"
        ),
    }
}
