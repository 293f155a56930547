//! What garbage is fed to: a [`Target`] for each place that reads what a guest, a device, a client or a file says. Real entry
//! points, as the product calls them; what is fake here is what lies beyond them: a hypervisor, a device, a cable.
//!
//! An input is bytes. Those of a parser are what it parses; those of a device are a script of what its driver does
//! ([`Input`]). A target fails by panicking, by taking more memory than [`bounds`] allows, or by not coming back.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a target fails by panicking"
)]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

pub mod bounds;
mod fakes;
mod input;
mod targets;

pub use input::Input;
pub use targets::TARGETS;

/// Something that takes any bytes.
#[derive(Clone, Copy)]
pub struct Target {
    /// What it is called: on command lines, in corpora, as a binary.
    pub name: &'static str,
    /// What is fed.
    pub about: &'static str,
    /// Feeds it one input. Panics if that is a finding.
    pub run: fn(&[u8]),
}

/// Names a file that always has the input which is handled just now: whatever it does to its process, it can be looked at.
const KEPT: &str = "FUZZ_KEPT_INPUT";

/// Feeds one input to the target called `name`.
///
/// # Panics
/// It is a finding.
pub fn run(name: &str, input: &[u8]) {
    static KEPT_IN: OnceLock<Option<File>> = OnceLock::new();
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target");
    let kept = KEPT_IN.get_or_init(|| std::env::var_os(KEPT).map(|path| File::create(path).expect("a file")));
    if let Some(file) = kept {
        file.set_len(input.len() as u64)
            .and_then(|()| file.write_all_at(input, 0))
            .expect("room on the disk");
    }
    let _watched = bounds::watch(target.name);
    (target.run)(input);
}

#[cfg(test)]
#[path = "replay_test.rs"]
mod tests;
