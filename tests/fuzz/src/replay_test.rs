//! Each target with its corpus, with what was found before, and with both damaged: what `cargo test` does of fuzzing.

use std::collections::BTreeSet;
use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use super::*;

/// Damaged inputs a target: a second or two, unoptimised.
const ROUNDS: usize = 200;
/// As libFuzzer's `-max_len` here: larger inputs cost time and show little.
const LONGEST: usize = 1 << 18;

/// What panicked, on any thread: those of devices are joined by devices, which go on.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Files with inputs for a target, corpus first.
fn files(target: &str) -> Vec<PathBuf> {
    let directories = ["corpus", "regressions"].map(|kind| root().join(kind).join(target));
    let list = |directory: &PathBuf| {
        let mut files: Vec<_> =
            fs::read_dir(directory).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    };
    directories.iter().flat_map(list).collect()
}

/// A few things that go wrong with bytes.
fn damage(seeds: &[Vec<u8>], random: &mut Xoshiro256PlusPlus) -> Vec<u8> {
    let mut below = |most: usize| random.next_u64() as usize % most.max(1);
    let mut bytes = seeds[below(seeds.len())].clone();
    for _ in 0..1 + below(6) {
        let (at, length) = (below(bytes.len()), 1 + below(32));
        let end = (at + length).min(bytes.len());
        match below(8) {
            _ if bytes.is_empty() => bytes.push(below(256) as u8),
            0 => bytes[at] ^= 1 << below(8),
            1 => bytes[at] = below(256) as u8,
            2 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][below(5)],
            3 => bytes[at..end].fill([0, 0xff][below(2)]),
            4 => drop(bytes.drain(at..end)),
            5 => bytes.truncate(at),
            6 => {
                let piece = bytes[at..end].repeat(1 + below(8));
                bytes.splice(at..at, piece);
            }
            _ => {
                let other = &seeds[below(seeds.len())];
                let from = below(other.len());
                let piece = other[from..(from + 4 * length).min(other.len())].to_vec();
                bytes.splice(at..at, piece);
            }
        }
    }
    bytes.truncate(LONGEST);
    bytes
}

/// Feeds one input; what is wrong with it, if something is.
fn feed(target: &Target, name: &str, input: &[u8]) -> Result<(), String> {
    let _watched = bounds::watch(name);
    let result = panic::catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    let panics = std::mem::take(&mut *PANICS.lock().unwrap());
    if result.is_ok() && panics.is_empty() {
        return Ok(());
    }
    Err(format!("{name}: {}", panics.join("; ")))
}

fn replay(target: &Target, kept: &Path) -> Result<(), String> {
    let files = files(target.name);
    let seeds: Vec<Vec<u8>> = files.iter().map(|file| fs::read(file).unwrap()).collect();
    assert!(!seeds.is_empty(), "{} has no corpus", target.name);
    for (file, seed) in files.iter().zip(&seeds) {
        feed(target, &file.display().to_string(), seed)?;
    }
    let mut random = Xoshiro256PlusPlus::seed_from_u64(7);
    let kept = kept.join(target.name);
    let name = format!("{} (cargo lab fuzz {} --input {0})", kept.display(), target.name);
    for _ in 0..ROUNDS {
        let input = damage(&seeds, &mut random);
        // Whatever becomes of this process, the input is there to be looked at.
        fs::write(&kept, &input).unwrap();
        feed(target, &name, &input)?;
    }
    fs::remove_file(kept).unwrap();
    Ok(())
}

#[test]
fn garbage_makes_nothing_panic_hang_or_allocate_without_bound() {
    panic::set_hook(Box::new(|info| PANICS.lock().unwrap().push(info.to_string())));
    let kept = std::env::temp_dir().join(format!("fuzz-{}", std::process::id()));
    fs::create_dir(&kept).unwrap();
    let only = std::env::var("FUZZ_TARGET").ok();
    let targets = TARGETS.iter().filter(|it| only.as_ref().is_none_or(|only| it.name == only));
    let findings: Vec<String> = targets.filter_map(|target| replay(target, &kept).err()).collect();
    drop(panic::take_hook());
    assert!(findings.is_empty(), "{}", findings.join("\n"));
    fs::remove_dir(&kept).unwrap();
}

#[test]
fn every_target_has_a_binary_and_every_binary_a_target() {
    let names: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let mut binaries = BTreeSet::new();
    for entry in fs::read_dir(root().join("fuzz_targets")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        assert!(fs::read_to_string(&path).unwrap().contains(&format!("fuzz::run(\"{name}\"")), "{name}");
        assert!(
            manifest.contains(&format!("name = \"{name}\"\npath = \"fuzz_targets/{name}.rs\"")),
            "{name}"
        );
        binaries.insert(name);
    }
    assert_eq!(names, binaries);
    for kind in ["corpus", "regressions"] {
        for entry in fs::read_dir(root().join(kind)).into_iter().flatten() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(names.contains(&name), "{kind} of {name}, which is no target");
        }
    }
}

/// Runs an ignored test of this file in a process of its own; how that ended, and what it said.
fn apart(test: &str) -> (std::process::ExitStatus, String) {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    let output =
        command.args(["--exact", &format!("tests::{test}"), "--ignored", "--nocapture"]).output().unwrap();
    (output.status, String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn what_a_target_does_wrong_is_found() {
    use std::os::unix::process::ExitStatusExt;
    let (status, said) = apart("takes_too_much");
    assert_eq!(status.signal(), Some(libc::SIGABRT), "{said}");
    assert!(said.contains("finding: too much memory") && said.contains("a greedy target"), "{said}");
    let (status, said) = apart("panics_elsewhere");
    assert!(status.success(), "{said}");
}

#[test]
#[ignore = "ends its process"]
fn takes_too_much() {
    let greedy = Target { name: "greedy", about: "", run: |input| drop(vec![0_u8; input.len() << 20]) };
    feed(&greedy, "a modest target", &[0; 31]).unwrap();
    let _ = feed(&greedy, "a greedy target", &[0; 33]);
}

#[test]
#[ignore = "changes what a panic does in its process"]
fn panics_elsewhere() {
    panic::set_hook(Box::new(|info| PANICS.lock().unwrap().push(info.to_string())));
    let run = |input: &[u8]| {
        let bad = input.contains(&1);
        let _ = std::thread::spawn(move || assert!(!bad, "a worker")).join();
    };
    let target = Target { name: "threads", about: "", run };
    assert_eq!(feed(&target, "good", &[0]), Ok(()));
    assert!(feed(&target, "bad", &[1]).unwrap_err().contains("a worker"));
}
