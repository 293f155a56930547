//! `--console`: ports of the guest's virtio console.

use std::path::PathBuf;

use miette::Diagnostic;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use vmm::virtio::console::{PortSpec, PortTarget};
use vmm::{Class, Problems};

/// A port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct ConsolePort {
    /// The Unix socket that a client connects to; one at a time.
    #[schemars(extend("x-value" = "PATH"))]
    pub(crate) socket: Option<PathBuf>,
    /// Instead, a new pseudo-terminal, to which this path is made a link.
    #[schemars(extend("x-value" = "PATH"))]
    pub(crate) pty: Option<PathBuf>,
    /// Instead, the file that output is appended to.
    #[schemars(extend("x-value" = "FILE"))]
    pub(crate) file: Option<PathBuf>,
    /// What programs of the guest find it by. Without a name it is a console, hvc0 the first.
    #[schemars(extend("x-value" = "NAME"))]
    pub(crate) name: Option<String>,
}

/// Options that make no sense together.
#[derive(Debug, Error, Diagnostic, PartialEq, Eq)]
enum ConsoleError {
    #[error("--console leads to {0} places")]
    #[diagnostic(help(
        "give one of socket=PATH, pty=PATH and file=FILE; a second port is a --console of its own"
    ))]
    Targets(usize),
}

impl ConsolePort {
    /// What it means; what makes no sense is reported.
    pub(super) fn spec(&self, problems: &mut Problems) -> Option<PortSpec> {
        let Self { socket, pty, file, name } = self.clone();
        let mut targets: Vec<PortTarget> =
            [socket.map(PortTarget::Socket), pty.map(PortTarget::Pty), file.map(PortTarget::File)]
                .into_iter()
                .flatten()
                .collect();
        match (targets.pop(), targets.len()) {
            (Some(to), 0) => Some(PortSpec { name, to }),
            (last, others) => {
                problems.add(Class::Usage, ConsoleError::Targets(others + usize::from(last.is_some())));
                None
            }
        }
    }
}

#[cfg(test)]
#[path = "console_test.rs"]
mod tests;
