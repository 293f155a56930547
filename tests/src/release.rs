//! `cargo lab release`: what a release consists of, from what is committed, with what can be said of where it comes from.
//!
//! The binary is built twice, from two clones at two places, and must come out the same, byte for byte. Licences, sources and known
//! vulnerabilities of what it is made from are checked (cargo-deny, deny.toml), and listed in a bill of materials (CycloneDX).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::files::{During, FileError};
use crate::product::{TARGET, cargo, target, workspace};
use crate::tool::{self, ToolError, announce};

/// Programs of others, in the versions that are known to do. They are installed below cargo's target directory.
const TOOLS: [(&str, &str); 2] = [("cargo-deny", "0.20.2"), ("cargo-cyclonedx", "0.5.9")];
/// At different depths, so that a path that finds its way into a binary shows.
const CLONES: [&str; 2] = ["one", "another/clone"];

/// There is no release.
#[derive(Debug, Error)]
pub(crate) enum ReleaseError {
    /// A release is a commit.
    #[error("there are changes that are not committed")]
    Uncommitted { changes: String },
    /// A program failed.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// A file is not where it should be.
    #[error(transparent)]
    File(#[from] FileError),
    /// The two binaries are not one.
    #[error("two builds of one commit differ: {} and {}", .0.display(), .1.display())]
    Differ(PathBuf, PathBuf),
}

impl ReleaseError {
    /// What to do about it.
    pub(crate) fn help(&self) -> Option<String> {
        match self {
            ReleaseError::Uncommitted { .. } => {
                Some("commit them, or take them away: `git status`".to_owned())
            }
            ReleaseError::Differ(..) => Some("diffoscope shows where".to_owned()),
            _ => None,
        }
    }

    /// Output that shows the cause.
    pub(crate) fn detail(&self) -> Option<&str> {
        match self {
            ReleaseError::Uncommitted { changes } => Some(changes),
            ReleaseError::Tool(error) => error.output(),
            _ => None,
        }
    }
}

/// Makes it in the directory `release-files` of cargo's target directory, and says so.
pub(crate) fn run() -> Result<ExitCode, ReleaseError> {
    let changes = tool::capture(git().args(["status", "--porcelain"]))?;
    if !changes.is_empty() {
        return Err(ReleaseError::Uncommitted { changes });
    }
    let tools = tools()?;
    audit(&tools)?;
    let work = target().join("release-clones");
    if work.exists() {
        fs::remove_dir_all(&work).during("empty", &work)?;
    }
    let [clone, other] = CLONES.map(|name| work.join(name));
    let (first, second) = (build(&clone)?, build(&other)?);
    let read = |path: &Path| fs::read(path).during("read", path);
    let binary = read(&first)?;
    if binary != read(&second)? {
        return Err(ReleaseError::Differ(first, second));
    }
    let bill = bill(&tools, &clone)?;
    let directory = target().join("release-files");
    fs::create_dir_all(&directory).during("create", &directory)?;
    let put = |name: &str, content: &[u8]| {
        let path = directory.join(name);
        fs::write(&path, content).during("write", &path)
    };
    let sum: String = Sha256::digest(&binary).iter().map(|byte| format!("{byte:02x}")).collect();
    let vmm = directory.join("vmm");
    fs::copy(&first, &vmm).during("copy", &first)?;
    put("vmm.sha256", format!("{sum}  vmm\n").as_bytes())?;
    put("vmm.cdx.json", bill.as_bytes())?;
    fs::remove_dir_all(&work).during("remove", &work)?;
    println!("{sum}  {} ({} bytes, built twice)", vmm.display(), binary.len());
    println!("bill of materials: {}", directory.join("vmm.cdx.json").display());
    Ok(ExitCode::SUCCESS)
}

/// Installs what is missing, and gives the directory of all.
fn tools() -> Result<PathBuf, ReleaseError> {
    let root = target().join("tools");
    for (name, version) in TOOLS {
        let stamp = root.join(format!("{name}-{version}"));
        if stamp.exists() {
            continue;
        }
        announce(&format!("installing {name} {version}"));
        let mut install = cargo(&["install", "--locked", "--debug", "--root"]);
        // The workspace's own settings are not for others.
        install.arg(&root).arg(format!("{name}@{version}")).current_dir("/").env_remove("CARGO_TARGET_DIR");
        tool::show(&mut install)?;
        fs::write(&stamp, "").during("write", &stamp)?;
    }
    Ok(root.join("bin"))
}

/// Licences, sources and versions; and advisories, where their list can be had.
fn audit(tools: &Path) -> Result<(), ReleaseError> {
    announce("licences, sources and advisories of dependencies");
    let deny = |how: &[&str], what: &[&str]| {
        let mut command = Command::new(tools.join("cargo-deny"));
        command.current_dir(workspace()).args(["--color", "never"]).args(how);
        tool::capture(command.args(["check", "--hide-inclusion-graph"]).args(what))
    };
    let missing = |result: &Result<String, ToolError>| {
        let output = result.as_ref().err().and_then(ToolError::output).unwrap_or_default();
        is_list_missing(output)
    };
    deny(&[], &["bans", "licenses", "sources"])?;
    let mut checked = deny(&[], &["advisories"]);
    if missing(&checked) {
        // The list as it was fetched before will do.
        checked = deny(&["--offline"], &["advisories"]);
    }
    if missing(&checked) {
        println!("advisories were not checked: the list of rustsec.org cannot be had here");
        return Ok(());
    }
    Ok(checked.map(drop)?)
}

/// Whether cargo-deny says that it has no list of advisories: that it cannot fetch one, or that none was fetched before. What it finds by a
/// list may name the list as well, and is never taken for that.
fn is_list_missing(output: &str) -> bool {
    let missing = output.contains("advisory database") || output.contains("advisory-dbs/");
    missing && !output.contains("error[")
}

/// Builds what is committed in a clone of its own, with no path of this machine in it.
fn build(clone: &Path) -> Result<PathBuf, ReleaseError> {
    announce(&format!("building in {}", clone.display()));
    tool::capture(git().args(["clone", "--quiet", "--local", "."]).arg(clone))?;
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cargo")));
    let mut flags = format!("-C target-feature=+crt-static --remap-path-prefix={}=/vmm", clone.display());
    if let Some(home) = home {
        flags += &format!(" --remap-path-prefix={}=/cargo", home.display());
    }
    let mut build = cargo(&["build", "--release", "--package", "cli", "--locked"]);
    build.current_dir(clone).env_remove("CARGO_TARGET_DIR").env("RUSTFLAGS", flags);
    tool::show(&mut build)?;
    Ok(clone.join("target").join(TARGET).join("release/vmm"))
}

/// What is in the binary, as CycloneDX has it.
fn bill(tools: &Path, clone: &Path) -> Result<String, ReleaseError> {
    let time = tool::capture(git().args(["log", "-1", "--format=%ct"]))?;
    let mut command = Command::new(tools.join("cargo-cyclonedx"));
    command.args(["cyclonedx", "--format", "json", "--target", TARGET, "--no-build-deps"]);
    command.args(["--manifest-path", "cli/Cargo.toml", "--override-filename", "bill"]);
    tool::capture(command.current_dir(clone).env("SOURCE_DATE_EPOCH", time.trim()))?;
    let file = clone.join("cli/bill.json");
    // Crates of the workspace are called by where they are.
    let bill = fs::read_to_string(&file).during("read", &file)?;
    Ok(bill.replace(&format!("{}/", clone.display()), ""))
}

fn git() -> Command {
    let mut git = Command::new("git");
    git.current_dir(workspace());
    git
}

#[cfg(test)]
#[path = "release_test.rs"]
mod tests;
