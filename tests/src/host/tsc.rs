//! The frequency of the time-stamp counter, which QEMU's TCG hands through to its machines.
//!
//! # Unsafe
//! Reading the counter is an intrinsic that the language calls unsafe.
#![expect(unsafe_code, reason = "RDTSC")]

use std::arch::x86_64::_rdtsc;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Long enough that the two clocks agree to a few millionths.
const SPAN: Duration = Duration::from_millis(50);

/// In kHz, as the kernel wants it. Measured once.
pub(super) fn khz() -> u64 {
    static KHZ: OnceLock<u64> = OnceLock::new();
    *KHZ.get_or_init(|| {
        let (start, from) = (Instant::now(), ticks());
        while start.elapsed() < SPAN {
            std::hint::spin_loop();
        }
        let (elapsed, ticks) = (start.elapsed(), ticks() - from);
        (u128::from(ticks) * 1_000_000 / elapsed.as_nanos().max(1)) as u64
    })
}

fn ticks() -> u64 {
    // SAFETY: every x86_64 processor has the instruction, and Linux lets user space use it.
    unsafe { _rdtsc() }
}
