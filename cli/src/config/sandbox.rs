//! `--sandbox`

#![expect(clippy::print_stderr, reason = "the operator is told what protects the host, and what does not")]

use clap::ValueEnum;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vmm::console::terminal;
use vmm::{Class, Problem, Problems};

/// What is done if nobody says.
const DEFAULT: Sandbox = Sandbox::On;

/// Whether vmm confines itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Sandbox {
    On,
    Off,
}

/// There is no seccomp.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("vmm cannot confine itself")]
#[diagnostic(help(
    "the kernel needs CONFIG_SECCOMP_FILTER; if a filter of a container is in the way, let it allow seccomp(2). \
     `--sandbox off` runs without"
))]
struct NoSandbox(#[source] sandbox::SandboxError);

/// Confines this process as is `asked` for, before there are other threads and before anything of a guest is looked at. Who asks
/// for no sandbox is told what that means.
pub(crate) fn arm(asked: Option<Sandbox>) -> Result<(), Problems> {
    match asked.unwrap_or(DEFAULT) {
        Sandbox::On => sandbox::arm(terminal::restore).map_err(NoSandbox).map_err(Problem::of(Class::Host)),
        Sandbox::Off => {
            eprintln!(
                "warning: --sandbox off: a guest that takes vmm over may do all that this user may do on the host"
            );
            Ok(())
        }
    }
}
