//! A drive that is told to write where it should not reach: the queues of its controller and its answer lie at a physical address that
//! no driver has mapped for it.

use crate::access::Window;
use crate::function::{Function, functions};

/// QEMU's NVMe controller.
const NVME: (u16, u16) = (0x1b36, 0x0010);
const MEMORY: usize = 4 << 20;
/// Reads of a register that may pass before the controller has done something.
const PATIENCE: u32 = 200_000;

/// Registers (NVM Express base specification 2.0, 3.1.3), and the doorbell of the first queue.
const CONFIGURATION: usize = 0x14;
const STATUS: usize = 0x1c;
const QUEUE_SIZES: usize = 0x24;
const SUBMISSIONS: usize = 0x28;
const COMPLETIONS: usize = 0x30;
const DOORBELL: usize = 0x1000;
const ENABLE: u64 = 1;
/// Entries of 64 and 16 bytes.
const ENTRY_SIZES: u64 = 6 << 16 | 4 << 20;
const READY: u64 = 1 << 0;
const FATAL: u64 = 1 << 1;
/// Tells what the controller is.
const IDENTIFY: u64 = 0x06;

/// Where the parts lie in memory.
const COMPLETED: usize = 0x1000;
const ANSWER: usize = 0x2000;

/// Has the controller fetch a command, and answer it. Says whether it did.
pub(crate) fn reach(physical: u64) {
    let memory = Window::map(physical, MEMORY as u64);
    let all = functions();
    let drive = all.iter().find(|function| function.identity == NVME).unwrap();
    println!(
        "hostile: the drive has {} the memory",
        if reached(drive, &memory) { "reached" } else { "not reached" }
    );
}

fn reached(drive: &Function, memory: &Window) -> bool {
    drive.command(0);
    let registers = drive.bar(0);
    let until = |wanted: &dyn Fn(u64) -> bool| (0..PATIENCE).any(|_| wanted(registers.read(STATUS, 4)));
    registers.write(CONFIGURATION, 4, 0);
    assert!(until(&|status| status & READY == 0), "the controller does not stop");
    (0..ANSWER + 0x1000).step_by(8).for_each(|at| memory.write(at, 8, 0));
    registers.write(QUEUE_SIZES, 4, 0x000f_000f);
    for (register, offset) in [(SUBMISSIONS, 0), (COMPLETIONS, COMPLETED as u64)] {
        registers.write(register, 4, memory.physical + offset);
        registers.write(register + 4, 4, 0);
    }
    registers.write(CONFIGURATION, 4, ENABLE | ENTRY_SIZES);
    assert!(until(&|status| status & READY != 0), "the controller does not start");
    memory.write(0, 8, 1 << 16 | IDENTIFY);
    memory.write(24, 8, memory.physical + ANSWER as u64);
    memory.write(40, 8, 1);
    registers.write(DOORBELL, 4, 1);
    let phase = || memory.read(COMPLETED + 14, 2) & 1 != 0;
    until(&|status| status & FATAL != 0 || phase());
    let answered = (0..0x1000).step_by(8).any(|at| memory.read(ANSWER + at, 8) != 0);
    registers.write(CONFIGURATION, 4, 0);
    phase() || answered
}
