//! The escape key, Ctrl-A, as QEMU's console and minicom have it: `Ctrl-A x` ends the machine, `Ctrl-A h` shows help,
//! `Ctrl-A a` and `Ctrl-A Ctrl-A` send one Ctrl-A to the guest. After any other key both are the guest's.

const CTRL_A: u8 = 0x01;

/// What a key press means to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// End the machine.
    Quit,
    /// Show what the keys do.
    Help,
}

/// Tells our keys from the guest's in a stream of bytes.
#[derive(Debug, Default)]
pub struct Escape {
    pressed: bool,
}

impl Escape {
    /// Appends what is for the guest to `guest`, and returns what is for us. After [`Key::Quit`] the rest of the
    /// input is nobody's.
    pub fn filter(&mut self, input: &[u8], guest: &mut impl Extend<u8>) -> Vec<Key> {
        let mut keys = Vec::new();
        for byte in input {
            match (std::mem::take(&mut self.pressed), byte) {
                (false, &CTRL_A) => self.pressed = true,
                (false, byte) => guest.extend([*byte]),
                (true, b'x') => {
                    keys.push(Key::Quit);
                    break;
                }
                (true, b'h' | b'?') => keys.push(Key::Help),
                (true, b'a' | &CTRL_A) => guest.extend([CTRL_A]),
                (true, byte) => guest.extend([CTRL_A, *byte]),
            }
        }
        keys
    }
}

#[cfg(test)]
#[path = "escape_test.rs"]
mod tests;
