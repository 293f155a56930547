//! Lines to and from the console. A console that fails is no reason to stop: what cannot be written is lost.

use std::io::{self, BufRead, IsTerminal, Read, Write};

/// Longest line taken from the console, in bytes: a terminal in canonical mode gives no more.
const LINE_MAX: u64 = 4096;

/// Makes the console standard input, output and error, unless the kernel has done so.
///
/// # Errors
/// The console cannot be opened: the kernel has none.
pub(super) fn attach() -> io::Result<()> {
    if io::stdin().is_terminal() && io::stdout().is_terminal() {
        return Ok(());
    }
    let console = std::fs::OpenOptions::new().read(true).write(true).open("/dev/console")?;
    rustix::stdio::dup2_stdin(&console)?;
    rustix::stdio::dup2_stdout(&console)?;
    rustix::stdio::dup2_stderr(&console)?;
    Ok(())
}

/// Prints a line on the console.
pub(super) fn say(line: &str) {
    write_line(&mut io::stdout().lock(), line);
}

/// Writes a line at once, so that the kernel's messages stay around it.
pub(super) fn write_line(out: &mut dyn Write, line: &str) {
    let _ = out.write_all(format!("{line}\n").as_bytes());
    let _ = out.flush();
}

/// Shows `prompt` and reads a line; `None` at the end of input.
pub(super) fn ask(prompt: &str) -> Option<String> {
    let mut out = io::stdout().lock();
    let _ = out.write_all(prompt.as_bytes());
    let _ = out.flush();
    drop(out);
    read_line(&mut io::stdin().lock())
}

fn read_line(input: &mut impl BufRead) -> Option<String> {
    let mut line = Vec::new();
    match input.take(LINE_MAX).read_until(b'\n', &mut line) {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(String::from_utf8_lossy(&line).trim().to_owned()),
    }
}

#[cfg(test)]
#[path = "console_test.rs"]
mod tests;
