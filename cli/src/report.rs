//! What goes wrong, in words: the problem, its causes one a line, what to do. And what is printed, kept fit for a terminal.

use std::io::{self, Write};

use miette::Diagnostic;
use vmm::Problems;

use crate::stderr::say;

/// Prints every problem to standard error.
pub(crate) fn problems(problems: &Problems) {
    for problem in &problems.0 {
        say!("{}", text("error", problem.what.as_ref()));
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
    let help = what.help().map(|help| help.to_string());
    lines(label, &what.to_string(), &causes(what), help.as_deref())
}

/// What caused it, the nearest cause first.
pub(crate) fn causes(what: &dyn Diagnostic) -> Vec<String> {
    let mut causes = vec![what.to_string()];
    causes.extend(std::iter::successors(what.source(), |cause| (*cause).source()).map(ToString::to_string));
    // A transparent layer repeats the one below.
    causes.dedup();
    causes.split_off(1)
}

/// Something, called `label`, with its causes, one a line, and its remedy.
pub(crate) fn lines(label: &str, title: &str, causes: &[String], remedy: Option<&str>) -> String {
    let mut text = format!("{label}: {title}\n");
    causes.iter().for_each(|cause| text += &format!("  cause: {cause}\n"));
    if let Some(remedy) = remedy {
        for (index, line) in remedy.lines().enumerate() {
            text += &format!("{}{line}\n", if index == 0 { "   help: " } else { "         " });
        }
    }
    printable(&text)
}

#[cfg(test)]
#[path = "report_test.rs"]
mod tests;
