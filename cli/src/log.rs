//! What is logged, on standard error: warnings always, more with each `-v`, or what `--log` or the environment says.

mod sparing;

use std::ffi::OsStr;
use std::io::IsTerminal;

use miette::Diagnostic;
use thiserror::Error;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use vmm::{Class, Problem, Problems};

use crate::args::{Cli, LogFormat};
use crate::stderr::Stderr;
use sparing::Sparing;

/// Says what to log where `--log` does not.
const VARIABLE: &str = "VMM_LOG";
/// Says not to colour (no-color.org).
const NO_COLOR: &str = "NO_COLOR";

/// A filter that cannot be read.
#[derive(Debug, Error, Diagnostic)]
#[error("{from} `{filter}` does not say what to log")]
#[diagnostic(help(
    "give a level (error, warn, info, debug, trace), or levels of modules, as in vfio=debug,memory=trace"
))]
struct BadFilter {
    from: &'static str,
    filter: String,
    #[source]
    source: tracing_subscriber::filter::ParseError,
}

/// Logs from now on.
pub(crate) fn start(cli: &Cli) -> Result<(), Problems> {
    let variable = std::env::var(VARIABLE).ok();
    let filter =
        filter(cli.log.as_deref(), variable.as_deref(), cli.verbose).map_err(Problem::of(Class::Usage))?;
    // Left to itself the layer would complain of standard error on standard error, which panics there.
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(Stderr::lock)
        .log_internal_errors(false);
    let sparing = Sparing::new(cli.log_format);
    match cli.log_format {
        LogFormat::Text => {
            let coloured = std::io::stderr().is_terminal() && !is_set(std::env::var_os(NO_COLOR).as_deref());
            lines.with_ansi(coloured).with_target(false).finish().with(sparing).init();
        }
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true).with_current_span(false).with_span_list(false);
            lines.finish().with(sparing).init()
        }
    }
    Ok(())
}

/// Whether a variable that need only be there, and not be empty, is.
fn is_set(variable: Option<&OsStr>) -> bool {
    variable.is_some_and(|value| !value.is_empty())
}

/// What is typed goes over the environment, and either over `-v`.
fn filter(typed: Option<&str>, variable: Option<&str>, verbose: u8) -> Result<EnvFilter, BadFilter> {
    let level = match verbose {
        0 => "warn",
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    let (from, filter) = match (typed, variable) {
        (Some(filter), _) => ("--log", filter),
        (None, Some(filter)) if !filter.is_empty() => (VARIABLE, filter),
        _ => ("-v", level),
    };
    EnvFilter::try_new(filter).map_err(|source| BadFilter { from, filter: filter.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_is_left_out_on_request() {
        assert!(is_set(Some("1".as_ref())) && is_set(Some("0".as_ref())));
        assert!(!is_set(Some("".as_ref())) && !is_set(None));
    }

    #[test]
    fn what_is_typed_goes_over_the_environment_and_either_over_verbosity() {
        let said =
            |typed, variable, verbose| filter(typed, variable, verbose).map(|filter| filter.to_string());
        assert_eq!(said(None, None, 0).unwrap(), "warn");
        assert_eq!(said(None, Some(""), 3).unwrap(), "trace");
        assert_eq!(said(None, Some("vfio=debug"), 3).unwrap(), "vfio=debug");
        assert_eq!(said(Some("memory=trace"), Some("vfio=debug"), 1).unwrap(), "memory=trace");
        let error = said(Some("vfio=loud"), None, 0).unwrap_err();
        assert_eq!(error.to_string(), "--log `vfio=loud` does not say what to log");
        let error = said(None, Some("=="), 0).unwrap_err();
        assert_eq!(error.to_string(), "VMM_LOG `==` does not say what to log");
    }
}
