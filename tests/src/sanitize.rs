//! `cargo lab sanitize`: unit tests where each access to memory is watched, by AddressSanitizer (with its leak checker) and, what makes no system
//! calls that it does not know, by Miri, which also sees data races and undefined behaviour that happens to work. Both need a nightly
//! toolchain. The orders that threads can run in are loom's business, in an ordinary test.

use std::process::{Command, ExitCode};

use crate::product::{TARGET, target, workspace};
use crate::tool::{self, ToolError, announce};

/// Crates with code of their own to watch. Not `sandbox`, whose tests forbid what the watching takes. The rest of the workspace is the lab.
const CRATES: [&str; 5] = ["memory", "devices", "vfio", "vmm", "cli"];
/// Tests that Miri can run, by crate: parts of their names. Guest memory is a memfd, which it does not know.
const MIRI: [(&str, &[&str]); 2] = [
    ("devices", &["pci::", "serial::", "ioapic::", "legacy::", "bus::"]),
    ("memory", &["cma::debugfs", "cma::device_tree", "cma::log", "range", "pin::unit", "pin::plan"]),
];
/// Those of them that it is spared. The first two do a simple thing hundreds of thousands of times, which takes it a quarter of an hour
/// or more; the others look with poll(2) whether an eventfd is signalled, or open /dev/kmsg without blocking, neither of which it knows.
const SPARED: [&str; 6] = [
    "a_paste_of_64_kib_arrives_whole",
    "records_are_read_to_the_last_and_few_are_kept",
    "masked_vectors_collect_and_show_as_pending",
    "pending_while_masked_and_raised",
    "an_interrupt_while_it_is_masked_is_pending",
    "that_of_this_host_is_read_to_its_end",
];

/// Runs them; fails if any of them does.
pub(crate) fn run() -> Result<ExitCode, ToolError> {
    announce("unit tests under AddressSanitizer");
    let mut asan = nightly("test");
    for name in CRATES {
        asan.args(["--package", name]);
    }
    asan.args(["--lib", "--target", TARGET]);
    // These replace the workspace's own, of which a static C library is none that can be watched.
    asan.env("RUSTFLAGS", "-Zsanitizer=address -C target-feature=-crt-static");
    asan.env("ASAN_OPTIONS", "detect_leaks=1:handle_segv=0:use_sigaltstack=0");
    print!("{}", results(&tool::capture(&mut asan)?));
    for (name, tests) in MIRI {
        announce(&format!("what Miri can run of {name}"));
        let mut miri = nightly("miri");
        miri.args(["test", "--package", name, "--lib", "--"]).args(tests);
        miri.args(SPARED.iter().flat_map(|test| ["--skip", test]));
        miri.env("MIRIFLAGS", "-Zmiri-disable-isolation -Zmiri-permissive-provenance");
        // It takes a thousand times as long.
        miri.env("PROPTEST_CASES", "2");
        print!("{}", results(&tool::capture(&mut miri)?));
    }
    Ok(ExitCode::SUCCESS)
}

fn nightly(command: &str) -> Command {
    let mut cargo = Command::new("cargo");
    cargo.args(["+nightly", command]).current_dir(workspace());
    // `cargo run` says which cargo and toolchain it is, and means the children too.
    cargo
        .env_remove("CARGO")
        .env_remove("RUSTUP_TOOLCHAIN")
        .env("CARGO_TARGET_DIR", target().join("sanitize"));
    cargo
}

/// The lines that count tests.
fn results(output: &str) -> String {
    output.lines().filter(|line| line.starts_with("test result: ")).map(|line| format!("{line}\n")).collect()
}
