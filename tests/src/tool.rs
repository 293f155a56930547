//! Programs that the lab runs here: what they print is kept, shown as progress, and told when they fail.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::files::{During, FileError};
use crate::host::last_lines;

/// Lines of a failed program's output that are told.
const TAIL: usize = 30;
/// Off a terminal, a long step reports this often.
const REPORT_EVERY: Duration = Duration::from_secs(30);

/// A program did not do its work.
#[derive(Debug, Error)]
pub(crate) enum ToolError {
    /// It is not there, or cannot be run.
    #[error("cannot run {program}")]
    Start {
        program: String,
        #[source]
        source: io::Error,
    },
    /// It failed.
    #[error("{command} failed ({status})")]
    Failed { command: String, status: ExitStatus, output: String },
    /// Its output cannot be kept.
    #[error(transparent)]
    Log(#[from] FileError),
}

impl ToolError {
    /// The end of what it printed.
    pub(crate) fn output(&self) -> Option<&str> {
        match self {
            ToolError::Failed { output, .. } => Some(output),
            _ => None,
        }
    }
}

/// Runs `command` and gives its standard output.
pub(crate) fn capture(command: &mut Command) -> Result<String, ToolError> {
    let output = command.stdin(Stdio::null()).output().map_err(|e| cannot_start(command, e))?;
    if !output.status.success() {
        let text =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        return Err(failed(command, output.status, &text));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a `command` that shows its own progress, on a terminal; elsewhere runs it silently.
pub(crate) fn show(command: &mut Command) -> Result<(), ToolError> {
    if !io::stderr().is_terminal() {
        return capture(command).map(drop);
    }
    let terminal = io::stderr().as_fd().try_clone_to_owned().map_err(|e| cannot_start(command, e))?;
    let status =
        command.stdin(Stdio::null()).stdout(terminal).status().map_err(|e| cannot_start(command, e))?;
    if status.success() { Ok(()) } else { Err(failed(command, status, "")) }
}

/// Runs a long `command`, writes what it prints to `log` and shows how far it is as `label`.
pub(crate) fn with_progress(label: &str, command: &mut Command, log: &Path) -> Result<(), ToolError> {
    let mut file = File::create(log).during("create", log)?;
    let (reader, writer) = io::pipe().during("make a pipe for", log)?;
    let also = writer.try_clone().during("make a pipe for", log)?;
    command.stdin(Stdio::null()).stdout(writer).stderr(also);
    let mut child = command.spawn().map_err(|e| cannot_start(command, e))?;
    // The command keeps the pipe's other ends, and with them the reader waiting.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut progress = Progress::new(label);
    for line in BufReader::new(reader).split(b'\n') {
        let line = line.during("read what goes to", log)?;
        file.write_all(&line).and_then(|()| file.write_all(b"\n")).during("write", log)?;
        progress.line(&String::from_utf8_lossy(&line));
    }
    let status = child.wait().map_err(|e| cannot_start(command, e))?;
    progress.end(status.success());
    if status.success() {
        return Ok(());
    }
    let text = std::fs::read(log).during("read", log)?;
    Err(failed(command, status, &String::from_utf8_lossy(&text)))
}

fn cannot_start(command: &Command, source: io::Error) -> ToolError {
    ToolError::Start { program: command.get_program().to_string_lossy().into_owned(), source }
}

fn failed(command: &Command, status: ExitStatus, text: &str) -> ToolError {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args().take(4) {
        line = format!("{line} {}", argument.to_string_lossy());
    }
    ToolError::Failed { command: line, status, output: last_lines(text, TAIL) }
}

/// Says `what` the lab is about to do.
pub(crate) fn announce(what: &str) {
    eprintln!("lab: {what}");
}

/// A long step, shown as one line that changes on a terminal, as a line now and then elsewhere.
struct Progress<'a> {
    label: &'a str,
    started: Instant,
    reported: Instant,
    lines: usize,
    terminal: bool,
}

impl Progress<'_> {
    fn new(label: &str) -> Progress<'_> {
        let now = Instant::now();
        let terminal = io::stderr().is_terminal();
        announce(&format!("{label} ..."));
        Progress { label, started: now, reported: now, lines: 0, terminal }
    }

    fn line(&mut self, line: &str) {
        self.lines += 1;
        let so_far =
            format!("lab: {}: {} lines, {} s", self.label, self.lines, self.started.elapsed().as_secs());
        if self.terminal {
            let line: String =
                line.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(50).collect();
            eprint!("\r\x1b[K{so_far}  {line}");
        } else if self.reported.elapsed() > REPORT_EVERY {
            self.reported = Instant::now();
            eprintln!("{so_far}");
        }
    }

    fn end(&self, success: bool) {
        if self.terminal {
            eprint!("\r\x1b[K");
        }
        let word = if success { "done" } else { "failed" };
        announce(&format!("{} {word} after {} s", self.label, self.started.elapsed().as_secs()));
    }
}
