//! The few legacy and ACPI ports a guest needs: power-off, reset, events, the wall clock, and an exit for test guests.

pub mod acpi;
pub mod debug_exit;
pub mod event;
pub mod i8042;
pub mod rtc;

pub use acpi::{ResetRegister, SleepRegisters};
pub use debug_exit::DebugExit;
pub use event::EventRegister;
pub use i8042::KeyboardReset;
pub use rtc::Rtc;

#[cfg(test)]
#[path = "legacy_test.rs"]
mod tests;
