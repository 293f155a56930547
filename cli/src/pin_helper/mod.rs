//! `vmm pin-helper`: what the monitor executes itself as to hold trial pins (see `memory::pin::helper`). Not for
//! people, so it is not in the help; its standard streams are not what they usually are.

use std::process::ExitCode;

/// The first argument that makes this executable a pin helper.
pub(crate) const WORD: &str = "pin-helper";

/// Serves if that is what was asked for.
pub(crate) fn serve() -> Option<ExitCode> {
    let mut arguments =
        std::env::args_os().skip(1).map(|argument| argument.into_string().unwrap_or_default());
    if arguments.next().as_deref() != Some(WORD) {
        return None;
    }
    let arguments: Vec<String> = arguments.collect();
    Some(if memory::pin::helper::serve(&arguments).is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
