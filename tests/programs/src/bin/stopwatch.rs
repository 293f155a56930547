//! `stopwatch COMMAND..`: runs it with nothing to read, and says on the last line of standard output how many nanoseconds passed from
//! its exec to its exit, and its status.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "what it is for")]

use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    let Some(program) = words.next() else { return ExitCode::from(2) };
    let started = Instant::now();
    let status = Command::new(program).args(words).stdin(Stdio::null()).status();
    let nanoseconds = started.elapsed().as_nanos();
    match status {
        Ok(status) => {
            println!("\nstopwatch {nanoseconds} {}", status.code().unwrap_or(-1));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("stopwatch: {error}");
            ExitCode::FAILURE
        }
    }
}
