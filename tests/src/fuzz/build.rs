//! Building the targets for libFuzzer, in a directory of their own, since all code is compiled in another way.

use std::path::{Path, PathBuf};

use crate::product::{self, ProductError, cargo};
use crate::tool;

const PROFILE: &str = "fuzz";
/// What libFuzzer wants to know: which edges were taken and how often, and what was compared with what. These flags take the
/// place of those in .cargo/config.toml: libFuzzer comes with a C++ library that is not linked statically.
const FLAGS: [&str; 5] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

/// Targets that were built.
pub(super) struct Binaries {
    root: PathBuf,
}

impl Binaries {
    /// Builds `targets`.
    pub(super) fn build(targets: &[String]) -> Result<Self, ProductError> {
        let root = product::target().join("fuzz");
        let mut command =
            cargo(&["build", "--profile", PROFILE, "--package", "fuzz", "--features", "libfuzzer"]);
        command.args(["--target", product::TARGET]).arg("--target-dir").arg(&root);
        command.args(targets.iter().flat_map(|target| ["--bin", target]));
        command.env("RUSTFLAGS", FLAGS.join(" ")).env_remove("CARGO_ENCODED_RUSTFLAGS");
        tool::show(&mut command).map_err(ProductError::Fuzz)?;
        Ok(Self { root })
    }

    /// The binary of a target.
    pub(super) fn of(&self, target: &str) -> PathBuf {
        self.root.join(product::TARGET).join(PROFILE).join(target)
    }

    /// Where everything about fuzzing is put.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }
}
