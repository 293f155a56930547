//! What SPECIFICATION.md says holds a promise is there, and what docs/devices/README.md says shows a device; and it does for each.

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
                ["fuzz", "release", "test --rules"].contains(&name)
                    || root().join("tests/src/bench").join(name).is_dir()
            }
        };
        assert!(there, "SPECIFICATION.md or docs/devices/README.md names `{name}`, which is nowhere");
    }
}

/// Options of a machine that are no devices.
const OTHERS: [&str; 26] = [
    "kernel",
    "initrd",
    "cmdline",
    "memory",
    "cpus",
    "numa",
    "cpu-affinity",
    "cpu-realtime",
    "halt-poll",
    "housekeeping-cpus",
    "iommufd",
    "on-reboot",
    "on-exit",
    "prefault",
    "hugepages",
    "pin-verify",
    "pin-deadline",
    "pin-root-help",
    "report",
    "metrics",
    "events",
    "api-socket",
    "sandbox",
    "grace",
    "debug-exit",
    // Their use is to plug devices into.
    "pcie-ports",
];

#[test]
fn every_device_that_can_be_asked_for_is_shown() {
    let schema = fs::read_to_string(root().join("docs/config.schema.json")).unwrap();
    let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
    let options: Vec<&String> = schema["properties"].as_object().unwrap().keys().collect();
    assert!(OTHERS.iter().all(|other| options.iter().any(|option| option == other)), "{options:?}");
    for option in options.into_iter().filter(|option| !OTHERS.contains(&option.as_str())) {
        let flag = format!("--{option}");
        assert!(
            promises::devices().any(|device| device == flag),
            "docs/devices/README.md has no row for {flag}"
        );
    }
}
