//! The workspace as cargo sees it from within the lab: where it is, how its `vmm` is built, and how cargo is
//! called without the settings of the cargo that runs the lab.

use std::path::{Path, PathBuf};
use std::process::Command;

use thiserror::Error;

use crate::tool::{self, ToolError};

/// The only target there is.
pub(crate) const TARGET: &str = "x86_64-unknown-linux-gnu";
/// As for release, without what takes longest of that: optimisation across crates.
const PROFILE: &str = "lab";

/// `vmm` could not be built.
#[derive(Debug, Error)]
pub(crate) enum ProductError {
    /// Cargo reported errors.
    #[error("vmm does not build")]
    Build(#[source] ToolError),
    /// Cargo reported errors in the targets for fuzzing.
    #[error("the fuzz targets do not build")]
    Fuzz(#[source] ToolError),
    /// Cargo built something else.
    #[error("cargo built no {}", .path.display())]
    NoBinary { path: PathBuf },
}

impl ProductError {
    /// The end of what cargo printed.
    pub(crate) fn output(&self) -> Option<&str> {
        match self {
            ProductError::Build(e) | ProductError::Fuzz(e) => e.output(),
            ProductError::NoBinary { .. } => None,
        }
    }
}

/// The workspace's top directory.
pub(crate) fn workspace() -> &'static Path {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests)
}

/// A cargo command in the workspace.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(workspace());
    // What `cargo run` set for the lab would look like a changed environment to build scripts.
    for (name, _) in std::env::vars_os() {
        let name_text = name.to_string_lossy();
        if name_text.starts_with("CARGO_PKG_") || name_text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(name);
        }
    }
    command
}

/// What was built to run in hosts.
#[derive(Debug, Clone)]
pub(crate) struct Product {
    directory: PathBuf,
}

impl Product {
    /// Builds `vmm` and the programs of `tests/programs`. Cargo's progress is shown on a terminal.
    pub(crate) fn build() -> Result<Product, ProductError> {
        let packages = ["--package", "cli", "--package", "programs", "--bins"];
        build(&[&["--profile", PROFILE], &packages[..]].concat())?;
        let product = Product { directory: target().join(TARGET).join(PROFILE) };
        let vmm = product.vmm();
        if vmm.is_file() { Ok(product) } else { Err(ProductError::NoBinary { path: vmm }) }
    }

    /// `vmm` itself.
    pub(crate) fn vmm(&self) -> PathBuf {
        self.directory.join("vmm")
    }

    /// A program of `tests/programs`, such as "hold".
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

/// Builds `vmm` as it is released, which takes minutes, and gives its path.
pub(crate) fn release() -> Result<PathBuf, ProductError> {
    build(&["--release", "--package", "cli"])?;
    let path = target().join(TARGET).join("release/vmm");
    if path.is_file() { Ok(path) } else { Err(ProductError::NoBinary { path }) }
}

/// Builds one of the programs of `tests/programs`, and gives its path.
pub(crate) fn program(name: &str) -> Result<PathBuf, ProductError> {
    build(&["--profile", PROFILE, "--package", "programs", "--bin", name])?;
    let path = target().join(TARGET).join(PROFILE).join(name);
    if path.is_file() { Ok(path) } else { Err(ProductError::NoBinary { path }) }
}

fn build(arguments: &[&str]) -> Result<(), ProductError> {
    tool::show(cargo(&["build"]).args(arguments)).map_err(ProductError::Build)
}

/// Where cargo puts what it builds.
pub(crate) fn target() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    workspace().join(target)
}
