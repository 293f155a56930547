//! What goes wrong, in words: the problem, its causes one a line, what to do.
#![expect(clippy::print_stderr, reason = "this is where problems are printed")]

use std::error::Error;

use vmm::{Problem, Problems};

/// Prints every problem to standard error.
pub(crate) fn problems(problems: &Problems) {
    for problem in &problems.0 {
        eprint!("{}", text(problem));
    }
}

fn text(problem: &Problem) -> String {
    let what = problem.what.as_ref();
    let mut text = format!("error: {what}\n");
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
    text
}

#[cfg(test)]
#[path = "report_test.rs"]
mod tests;
