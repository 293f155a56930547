//! The CMOS real-time clock (Motorola MC146818A, with the century where ACPI's FADT says it is).
//!
//! It shows the host's time in UTC and cannot be set: what a guest writes into the clock is dropped, the rest is
//! memory. It raises no interrupts, so the DSDT should give it none.

use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::sync::lock;
use crate::{Action, BusDevice};

/// The index port; the data port follows.
pub const PORT: u64 = 0x70;
/// Number of ports.
pub const PORTS: u64 = 2;
/// Index of the century, for the FADT.
pub const CENTURY: u8 = 0x32;

const SECONDS: u8 = 0x00;
const MINUTES: u8 = 0x02;
const HOURS: u8 = 0x04;
const DAY_OF_WEEK: u8 = 0x06;
const DAY_OF_MONTH: u8 = 0x07;
const MONTH: u8 = 0x08;
const YEAR: u8 = 0x09;
const STATUS_A: u8 = 0x0a;
const STATUS_B: u8 = 0x0b;
const STATUS_C: u8 = 0x0c;
const STATUS_D: u8 = 0x0d;

/// 32.768 kHz time base, 1024 Hz rate.
const A_DEFAULT: u8 = 0x26;
const A_UPDATE_IN_PROGRESS: u8 = 0x80;
const B_24_HOURS: u8 = 0x02;
const B_BINARY: u8 = 0x04;
const D_VALID: u8 = 0x80;

/// How long before each second the clock says that it is about to change. The hardware promises 244 µs, which
/// a guest under nested virtualisation cannot keep to.
const UPDATE_WINDOW: Duration = Duration::from_millis(2);

/// The clock and its 128 bytes of memory.
pub struct Rtc {
    /// Time since 1970-01-01T00:00Z.
    clock: Box<dyn Fn() -> Duration + Send + Sync>,
    state: Mutex<State>,
}

struct State {
    index: u8,
    memory: [u8; 128],
}

impl Rtc {
    /// A clock that shows the host's.
    pub fn new() -> Self {
        // A host clock from before 1970 shows as 1970.
        Self::with_clock(Box::new(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()))
    }

    /// A clock that shows what `clock` gives, as time since 1970-01-01T00:00Z.
    pub fn with_clock(clock: Box<dyn Fn() -> Duration + Send + Sync>) -> Self {
        Self { clock, state: Mutex::new(State { index: 0, memory: [0; 128] }) }
    }

    fn register(&self, index: u8, memory: u8) -> u8 {
        let now = (self.clock)();
        let seconds = now.as_secs();
        let days = seconds / 86400;
        let (year, month, day) = civil(days);
        match index {
            SECONDS => bcd(seconds % 60),
            MINUTES => bcd(seconds / 60 % 60),
            HOURS => bcd(seconds / 3600 % 24),
            // 1970-01-01 was a Thursday; Sunday is 1.
            DAY_OF_WEEK => bcd((days + 4) % 7 + 1),
            DAY_OF_MONTH => bcd(day),
            MONTH => bcd(month),
            YEAR => bcd(year % 100),
            CENTURY => bcd(year / 100 % 100),
            STATUS_A => {
                let left =
                    Duration::from_secs(1).saturating_sub(Duration::from_nanos(now.subsec_nanos().into()));
                A_DEFAULT | if left <= UPDATE_WINDOW { A_UPDATE_IN_PROGRESS } else { 0 }
            }
            STATUS_B => memory & !B_BINARY | B_24_HOURS,
            STATUS_C => 0,
            STATUS_D => D_VALID,
            _ => memory,
        }
    }
}

impl Default for Rtc {
    fn default() -> Self {
        Self::new()
    }
}

impl BusDevice for Rtc {
    fn read(&self, offset: u64, data: &mut [u8]) {
        let state = lock(&self.state);
        for (port, byte) in (offset..).zip(data) {
            let memory = state.memory.get(usize::from(state.index)).copied().unwrap_or_default();
            // The index port is write-only.
            *byte = if port == 1 { self.register(state.index, memory) } else { 0xff };
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> Action {
        let mut state = lock(&self.state);
        for (port, byte) in (offset..).zip(data) {
            if port == 0 {
                // The top bit masks NMIs, of which there are none.
                state.index = byte & 0x7f;
            } else {
                let index = usize::from(state.index);
                if let Some(memory) = state.memory.get_mut(index) {
                    *memory = *byte;
                }
            }
        }
        Action::None
    }
}

/// The two digits of a number below 100.
fn bcd(value: u64) -> u8 {
    (value / 10 * 16 + value % 10) as u8
}

/// Year, month and day of a number of days since 1970-01-01, in the Gregorian calendar.
fn civil(days: u64) -> (u64, u64, u64) {
    // Counted from 0000-03-01, years end with their leap day and months follow a fixed pattern.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
#[path = "rtc_test.rs"]
mod tests;
