//! Trial pins in a process of their own.
//!
//! The kernel may loop in a long-term pin for as long as a page cannot be taken off its list (mm/gup.c,
//! `__gup_longterm_locked`), and only SIGKILL ends that. So the pins are taken by the same binary, executed anew
//! with nothing but the memfd and a socket: [`serve()`] is its main loop, [`Helper`] its end in this process, with a
//! watchdog. It may do nothing but pin (see [`filter`]); it dies with its parent; killing it gives all pins back.
//!
//! The memfd is its standard output, the socket (SOCK_SEQPACKET) its standard input, so that starting it takes no
//! more than a plain spawn. The messages are in [`protocol`].

pub mod filter;
mod process;
pub mod protocol;
mod serve;

use std::ffi::OsString;
use std::path::PathBuf;

pub(super) use process::Helper;
pub use serve::serve;

/// The name of a helper process (comm).
pub(super) const NAME: &std::ffi::CStr = c"vmm-pin-helper";

/// Whether helpers run on this host. Those of a monitor that was killed take a while to give its memory back.
pub(super) fn are_around() -> bool {
    let named = |entry: std::fs::DirEntry| {
        let name = std::fs::read(entry.path().join("comm")).unwrap_or_default();
        name.trim_ascii_end() == NAME.to_bytes()
    };
    std::fs::read_dir("/proc").is_ok_and(|entries| entries.flatten().any(named))
}

/// How to start the helper. It must come to [`serve()`] with the arguments that are appended to these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HelperCommand {
    /// The executable.
    pub program: PathBuf,
    /// What comes before the appended arguments.
    pub arguments: Vec<OsString>,
}

impl HelperCommand {
    /// This executable, told by its first argument, `word`, what it is to be.
    pub fn this_executable(word: &str) -> Self {
        Self { program: PathBuf::from("/proc/self/exe"), arguments: vec![word.into()] }
    }
}
