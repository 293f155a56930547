//! Why a request is not done, in the dialect's shape: a status, and an array of strings that goes from the problem to its
//! causes. The remedy comes last.
//!
//! The statuses are those that Cloud Hypervisor answers with: 400 for a request that makes no sense, 404 for a machine or
//! a device that is not there, 500 for all that fails, 501 for what is not to be had.

use std::error::Error;

use miette::Diagnostic;

use super::http::Response;
use crate::machine::control::ControlError;
use crate::problem::Problems;

/// A request that is not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// HTTP status.
    pub status: u16,
    /// The problem, its causes, its remedy.
    pub messages: Vec<String>,
}

impl ApiError {
    /// With this status, for this reason.
    pub fn new(status: u16, message: impl Into<String>) -> Self {
        Self { status, messages: vec![message.into()] }
    }

    /// The request's body makes no sense; all that is wrong with it.
    pub fn bad_request(messages: Vec<String>) -> Self {
        Self { status: 400, messages }
    }

    /// No machine has been created.
    pub fn not_created() -> Self {
        Self::new(404, "no machine has been created")
    }

    /// The machine does not run.
    pub fn not_running() -> Self {
        Self::new(500, "the machine is not running")
    }

    /// There is no device of that name.
    pub fn unknown_device(id: &str) -> Self {
        Self::new(404, format!("no device is called `{id}`"))
    }

    /// What was tried has failed.
    pub fn failed(what: &dyn Diagnostic) -> Self {
        Self { status: 500, messages: told(what) }
    }

    /// The response.
    pub fn response(&self) -> Response {
        Response::error(self.status, &self.messages)
    }
}

impl From<ControlError> for ApiError {
    fn from(error: ControlError) -> Self {
        let status = match error {
            ControlError::NoDisk(_) => 404,
            ControlError::Unsupported { .. } => 501,
            _ => 500,
        };
        Self { status, ..Self::failed(error.diagnostic()) }
    }
}

impl From<&Problems> for ApiError {
    fn from(problems: &Problems) -> Self {
        let mut messages = Vec::new();
        problems.0.iter().for_each(|problem| explain(problem.what.as_ref(), &mut messages));
        Self { status: 500, messages }
    }
}

/// The problem, its causes, and what to do about it.
pub(super) fn told(what: &dyn Diagnostic) -> Vec<String> {
    let mut messages = Vec::new();
    explain(what, &mut messages);
    messages
}

fn explain(what: &dyn Diagnostic, messages: &mut Vec<String>) {
    messages.push(what.to_string());
    let mut cause: Option<&dyn Error> = what.source();
    while let Some(error) = cause {
        let words = error.to_string();
        // A transparent layer repeats the one below.
        if messages.last() != Some(&words) {
            messages.push(words);
        }
        cause = error.source();
    }
    messages.extend(what.help().map(|help| format!("help: {help}")));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hypervisor::UnusableKvm;
    use crate::machine::control::ControlError;
    use crate::problem::Class;

    #[test]
    fn causes_come_before_remedies() {
        let mut problems = Problems::default();
        problems.add(Class::Host, UnusableKvm::Open(std::io::Error::other("no reason")));
        problems.add(Class::Host, UnusableKvm::Version(11));
        let error = ApiError::from(&problems);
        assert_eq!(error.status, 500);
        assert_eq!(error.messages.len(), 5, "{:?}", error.messages);
        assert_eq!(error.messages[1], "no reason");
        assert!(error.messages[2].starts_with("help: "));
        assert_eq!(error.response().status, 500);
    }

    #[test]
    fn what_is_not_to_be_had_is_501() {
        let error = ControlError::Unsupported { what: "flying", why: "without wings", help: "walk" };
        let error = ApiError::from(error);
        assert_eq!(
            (error.status, error.messages),
            (501, vec!["flying is not supported without wings".to_owned(), "help: walk".to_owned()])
        );
    }
}
