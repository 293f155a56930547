//! What SPECIFICATION.md says holds a promise is there.

use std::fs;
use std::path::{Path, PathBuf};

use super::all;
use crate::suite::promises::{self, Holder};

const CRATES: [&str; 7] = ["cli", "devices", "memory", "sandbox", "tests", "vfio", "vmm"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// All of the workspace's own code.
fn code() -> String {
    let mut directories: Vec<PathBuf> = CRATES.iter().map(|name| root().join(name)).collect();
    let mut code = String::new();
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                code += &fs::read_to_string(path).unwrap();
            }
        }
    }
    code
}

#[test]
fn every_promise_is_held_by_something_that_is_there() {
    let (cases, code) = (all(), code());
    for name in promises::named() {
        let there = match Holder::of(name) {
            Holder::Case { .. } => cases.iter().any(|case| case.name == name),
            Holder::Test => code.contains(&format!("fn {name}(")),
            Holder::Command => {
                ["fuzz", "release", "test --rules"].contains(&name) || root().join("tests/src/bench").join(name).is_dir()
            }
        };
        assert!(there, "SPECIFICATION.md names `{name}`, which is nowhere");
    }
}
