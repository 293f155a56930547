//! What is packaged beside the binary fits it: the systemd unit, the example machine, the package's list of files.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use clap::Parser;
use vmm::Problems;

use crate::args::{self, Cli};
use crate::config::Config;
use crate::grammar::{self, file, types};

const UNIT: &str = include_str!("../../packaging/systemd/vmm@.service");

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// All values that the unit has for a setting.
fn settings(name: &str) -> Vec<&'static str> {
    UNIT.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('=')).collect()
}

fn setting(name: &str) -> &'static str {
    match settings(name).as_slice() {
        [value] => value,
        values => panic!("{name} is {values:?}"),
    }
}

#[test]
fn the_unit_starts_a_machine_from_its_file() {
    let start = setting("ExecStart").strip_prefix("/usr/bin/").unwrap().replace("%i", "web");
    let cli = Cli::try_parse_from(start.split_whitespace()).unwrap();
    let Some(args::Command::Run(run)) = cli.command else { panic!("{start}") };
    assert_eq!(run.machine.file.as_deref(), Some(Path::new("/etc/vmm/web.toml")));
    let mut machine = run.machine.clone();
    machine.file = None;
    let mut problems = Problems::default();
    let config = machine.read(&mut problems).value;
    assert!(problems.0.is_empty(), "{problems:?}");
    // Where `vmm top` looks.
    assert_eq!(config.api_socket.as_deref(), Some("/run/vmm/web.sock"));
    assert_eq!(setting("RuntimeDirectory"), "vmm");
    // Or what is remembered of devices would go with the first machine that stops.
    assert_eq!(setting("RuntimeDirectoryPreserve"), "yes");
}

#[test]
fn the_unit_leaves_the_guest_the_time_that_it_has() {
    let types::Duration(stop) = setting("TimeoutStopSec").parse().unwrap();
    assert!(stop >= Config::default().grace.0 + Duration::from_secs(10), "{stop:?}");
    assert_eq!((setting("KillSignal"), setting("KillMode")), ("SIGTERM", "mixed"));
}

#[test]
fn the_unit_allows_what_vmm_opens() {
    assert_eq!((setting("LimitMEMLOCK"), setting("DevicePolicy")), ("infinity", "closed"));
    let allowed = settings("DeviceAllow");
    for node in [
        "/dev/kvm",
        "/dev/vfio/vfio",
        "char-vfio",
        "char-vfio-dev",
        "/dev/iommu",
        "/dev/net/tun",
        "/dev/vhost-net",
    ] {
        assert!(allowed.contains(&format!("{node} rw").as_str()), "{node}");
    }
    // These hide what vmm needs.
    for harmful in
        ["PrivateDevices", "ProtectKernelLogs", "ProtectKernelModules", "ProtectProc", "PrivateUsers"]
    {
        assert!(settings(harmful).is_empty(), "{harmful}");
    }
}

#[test]
fn systemd_finds_nothing_wrong_with_the_unit() {
    let directory = tempfile::tempdir().unwrap();
    let unit = directory.path().join("vmm@.service");
    let executable = std::env::current_exe().unwrap();
    std::fs::write(&unit, UNIT.replace("/usr/bin/vmm", executable.to_str().unwrap())).unwrap();
    // Not everybody has systemd.
    let Ok(output) = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit).output() else {
        return;
    };
    let said = String::from_utf8_lossy(&output.stderr);
    let about: Vec<&str> = said.lines().filter(|line| line.contains("vmm@")).collect();
    assert!(output.status.success() && about.is_empty(), "{said}");
}

#[test]
fn the_example_is_a_machine() {
    let value = file::parse(Path::new("example.toml"), read("packaging/example.toml")).unwrap();
    let reading = grammar::read::<Config>(&[value]);
    assert!(reading.problems.is_empty(), "{:?}", reading.problems);
    assert_eq!((reading.value.vfio.len(), reading.value.disk.len()), (1, 1));
}

#[test]
fn the_package_has_what_there_is() {
    let manifest: toml::Table = toml::from_str(include_str!("../Cargo.toml")).unwrap();
    let deb = manifest["package"]["metadata"]["deb"].as_table().unwrap();
    let assets: Vec<Vec<&str>> = deb["assets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|asset| asset.as_array().unwrap().iter().map(|part| part.as_str().unwrap()).collect())
        .collect();
    assert!(assets.iter().any(|asset| asset[..2] == ["target/release/vmm", "usr/bin/"]));
    let script = read("packaging/deb");
    for asset in &assets {
        let source = asset[0];
        let made = source.strip_prefix("../target/dist/").map(|made| made.trim_end_matches("*.1.gz"));
        let there = match (made, source.split_once('*')) {
            (Some(made), _) => script.contains(&format!("$dist/{made}")),
            (None, Some((directory, _))) => root().join("cli").join(directory).is_dir(),
            (None, None) => source.starts_with("target/") || root().join("cli").join(source).is_file(),
        };
        assert!(there, "{source}");
    }
    let calls = script.lines().filter_map(|line| line.strip_prefix("$vmm "));
    let calls: Vec<&str> = calls.map(|call| call.split(" > ").next().unwrap()).collect();
    assert_eq!(calls.len(), 4);
    for call in calls {
        Cli::try_parse_from(std::iter::once("vmm").chain(call.split(' '))).unwrap();
    }
}
