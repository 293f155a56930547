//! What SPECIFICATION.md says holds a promise is there.

use std::fs;
use std::path::{Path, PathBuf};

use super::all;

const CRATES: [&str; 7] = ["cli", "devices", "memory", "sandbox", "tests", "vfio", "vmm"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// What is named in the last column of the tables.
fn named() -> Vec<String> {
    let text = fs::read_to_string(root().join("SPECIFICATION.md")).unwrap();
    let cells =
        text.lines().filter(|line| line.starts_with("| ")).filter_map(|line| line.split(" | ").nth(1));
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()).collect()
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
    let (named, cases, code) = (named(), all(), code());
    assert!(named.len() > 30, "{named:?}");
    for name in named {
        let there = if name.contains('/') {
            cases.iter().any(|case| case.name == name)
        } else if name.contains('_') {
            code.contains(&format!("fn {name}("))
        } else {
            root().join("tests/src/bench").join(&name).is_dir()
        };
        assert!(there, "SPECIFICATION.md names `{name}`, which is nowhere");
    }
}
