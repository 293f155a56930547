//! The operator's end of the serial port: the terminal's raw mode, and the keys that are for us and not for the guest.

pub mod escape;
pub mod open;
pub mod terminal;

pub use escape::{Escape, Key};
pub use open::OpenConsole;
pub use terminal::RawMode;
