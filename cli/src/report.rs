//! What goes wrong, in words: the problem, its causes one a line, what to do. And what is printed, kept fit for a terminal.
#![expect(clippy::print_stderr, reason = "this is where problems are printed")]

use std::error::Error;
use std::io::{self, Write};

use miette::Diagnostic;
use vmm::Problems;

/// Prints every problem to standard error.
pub(crate) fn problems(problems: &Problems) {
    for problem in &problems.0 {
        eprint!("{}", text("error", problem.what.as_ref()));
    }
}

/// Prints to standard output. Whoever reads it may stop reading.
pub(crate) fn print(text: &str) {
    let mut out = io::stdout().lock();
    if let Err(error) = out.write_all(printable(text).as_bytes()).and_then(|()| out.flush()) {
        tracing::debug!(%error, "standard output takes no more");
    }
}

/// Control characters, which names of processes, mount points and devices may hold to deceive a terminal, are shown as
/// such; lines stay lines.
pub(crate) fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && c != '\n' {
            printable.extend(c.escape_default());
        } else {
            printable.push(c);
        }
    }
    printable
}

/// A problem, called `label`, with its causes and its remedy.
pub(crate) fn text(label: &str, what: &dyn Diagnostic) -> String {
    let mut text = format!("{label}: {what}\n");
    let mut said = what.to_string();
    let mut source: Option<&dyn Error> = what.source();
    while let Some(cause) = source {
        // A transparent layer repeats the one below.
        let words = cause.to_string();
        if words != said {
            text += &format!("  cause: {words}\n");
        }
        said = words;
        source = cause.source();
    }
    if let Some(help) = what.help() {
        let mut lines = help.to_string().lines().map(str::to_owned).collect::<Vec<_>>().into_iter();
        text += &format!("   help: {}\n", lines.next().unwrap_or_default());
        lines.for_each(|line| text += &format!("         {line}\n"));
    }
    printable(&text)
}

#[cfg(test)]
#[path = "report_test.rs"]
mod tests;
