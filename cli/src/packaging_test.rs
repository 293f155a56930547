//! What is packaged beside the binary fits it: the systemd unit, the example machine, the package's list of files.

use std::collections::BTreeSet;
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
        "/dev/vhost-vsock",
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

/// What the package has: source relative to this crate, directory, mode.
fn assets() -> Vec<[String; 3]> {
    let manifest: toml::Table = toml::from_str(include_str!("../Cargo.toml")).unwrap();
    let assets = manifest["package"]["metadata"]["deb"]["assets"].as_array().unwrap();
    let part = |asset: &toml::Value, index: usize| asset[index].as_str().unwrap().to_owned();
    assets.iter().map(|asset| [0, 1, 2].map(|index| part(asset, index))).collect()
}

/// Files of the repository that are packaged, relative to its root.
fn packaged() -> BTreeSet<PathBuf> {
    let sources =
        assets().into_iter().filter_map(|[source, ..]| Some(source.strip_prefix("../")?.to_owned()));
    let mut files = BTreeSet::new();
    for source in sources.filter(|source| !source.starts_with("target/")) {
        match source.split_once("/*") {
            None => drop(files.insert(PathBuf::from(source))),
            Some((directory, end)) => {
                for entry in std::fs::read_dir(root().join(directory)).unwrap() {
                    let name = entry.unwrap().file_name().into_string().unwrap();
                    if name.ends_with(end) {
                        files.insert(Path::new(directory).join(name));
                    }
                }
            }
        }
    }
    files
}

/// What packaged documents may link to without its being packaged: it is about the repository.
const OF_THE_REPOSITORY: [&str; 3] = ["CONTRIBUTING.md", "LICENSE", "docs/lab.md"];

#[test]
fn packaged_documents_link_to_packaged_documents() {
    let packaged = packaged();
    let mut links = 0;
    for document in packaged.iter().filter(|file| file.extension().is_some_and(|end| end == "md")) {
        let text = read(document.to_str().unwrap());
        for link in text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
            if link.is_empty() || link.contains("://") {
                continue;
            }
            let directory = document.parent().unwrap();
            let (mut up, mut link) = (directory, link);
            while let Some(rest) = link.strip_prefix("../") {
                (up, link) = (up.parent().unwrap(), rest);
            }
            let target = up.join(link);
            let of_the_repository = OF_THE_REPOSITORY.iter().any(|it| target == Path::new(it))
                || target.extension().is_some_and(|end| end == "rs");
            let known = packaged.contains(&target) || of_the_repository;
            assert!(known, "{} links to {}", document.display(), target.display());
            links += 1;
        }
    }
    assert!(links > 50, "only {links} links were found");
}

#[test]
fn the_script_takes_every_line_of_the_list() {
    // As its sed does: one asset a line.
    let lines = include_str!("../Cargo.toml").lines();
    let taken: Vec<&str> =
        lines.filter(|line| line.starts_with("    [\"") && line.ends_with("\"],")).collect();
    assert_eq!(taken.len(), assets().len());
    assert!(read("packaging/deb").contains(
        r#"sed -n 's/^    \["\([^"]*\)", "\([^"]*\)", "\([^"]*\)"\],$/\1 \2 \3/p' cli/Cargo.toml"#
    ));
}

#[test]
fn the_package_has_what_there_is() {
    let assets = assets();
    assert!(assets.iter().any(|asset| asset[..2] == ["target/release/vmm", "usr/bin/"]));
    let script = read("packaging/deb");
    for asset in &assets {
        let source = asset[0].as_str();
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
