//! The two stages of the timer, apart from what measures time: each counts down from its preload. The first one's end begins the
//! second one, whose end is what the watchdog is for.

use std::time::{Duration, Instant};

/// Bits of a preload value.
const PRELOAD: u32 = 0xf_ffff;
/// Of the PCI clock, which the stages count in units of 2^15 or 2^5 cycles, about 1 ms or 1 µs.
const CYCLES_PER_SECOND: u64 = 33_000_000;
/// A guest that has the machine look every microsecond is of no use.
const SHORTEST: Duration = Duration::from_millis(1);

/// How fast a stage counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Rate {
    #[default]
    Millisecond,
    Microsecond,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    First,
    Second,
}

/// What a stage's end means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passed {
    /// Nothing has ended yet, or nothing that matters.
    Nothing,
    /// The second stage has ended.
    Expired,
}

/// Whether time passes for a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Clock {
    Runs { until: Instant },
    Stands { left: Duration },
}

/// The timer.
#[derive(Debug)]
pub(super) struct Timer {
    preloads: [u32; 2],
    rate: Rate,
    stage: Option<(Stage, Clock)>,
    /// The guest is paused.
    stands: bool,
}

impl Default for Timer {
    fn default() -> Self {
        Self { preloads: [PRELOAD; 2], rate: Rate::default(), stage: None, stands: false }
    }
}

impl Timer {
    /// Sets the value that the first (0) or second (1) stage starts from, the next time.
    pub(super) fn preload(&mut self, stage: usize, value: u32) {
        if let Some(preload) = self.preloads.get_mut(stage) {
            *preload = value & PRELOAD;
        }
    }

    /// Sets how fast stages count, the next time.
    pub(super) fn set_rate(&mut self, rate: Rate) {
        self.rate = rate;
    }

    /// Begins the first stage.
    pub(super) fn start(&mut self, now: Instant) {
        self.begin(Stage::First, now);
    }

    /// Stops counting.
    pub(super) fn stop(&mut self) {
        self.stage = None;
    }

    /// Whether it counts, or would if the guest were not paused.
    pub(super) fn is_on(&self) -> bool {
        self.stage.is_some()
    }

    /// How long it is until the stage ends; `None` if it does not.
    pub(super) fn left(&self, now: Instant) -> Option<Duration> {
        match self.stage? {
            (_, Clock::Runs { until }) => Some(until.saturating_duration_since(now)),
            (_, Clock::Stands { .. }) => None,
        }
    }

    /// Looks whether a stage has ended.
    pub(super) fn look(&mut self, now: Instant) -> Passed {
        match self.stage {
            Some((stage, Clock::Runs { until })) if until <= now => match stage {
                Stage::First => {
                    self.begin(Stage::Second, now);
                    Passed::Nothing
                }
                Stage::Second => {
                    self.stage = None;
                    Passed::Expired
                }
            },
            _ => Passed::Nothing,
        }
    }

    /// No time passes from now on.
    pub(super) fn stand_still(&mut self, now: Instant) {
        self.stands = true;
        if let Some((_, clock)) = &mut self.stage
            && let Clock::Runs { until } = *clock
        {
            *clock = Clock::Stands { left: until.saturating_duration_since(now) };
        }
    }

    /// Time passes again.
    pub(super) fn go_on(&mut self, now: Instant) {
        self.stands = false;
        if let Some((_, clock)) = &mut self.stage
            && let Clock::Stands { left } = *clock
        {
            *clock = Clock::Runs { until: now + left };
        }
    }

    fn begin(&mut self, stage: Stage, now: Instant) {
        let [first, second] = self.preloads;
        let preload = if stage == Stage::First { first } else { second };
        let length = length(preload, self.rate);
        let clock =
            if self.stands { Clock::Stands { left: length } } else { Clock::Runs { until: now + length } };
        self.stage = Some((stage, clock));
    }
}

fn length(preload: u32, rate: Rate) -> Duration {
    let shift = match rate {
        Rate::Millisecond => 15,
        Rate::Microsecond => 5,
    };
    let cycles = u64::from(preload) << shift;
    // At most 2^35 cycles: about 17 minutes.
    Duration::from_nanos(cycles * 1000 / (CYCLES_PER_SECOND / 1_000_000)).max(SHORTEST)
}

#[cfg(test)]
#[path = "timer_test.rs"]
mod tests;
