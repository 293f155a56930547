//! Debian packages as a source of files: fetched and verified by apt, with lists of the lab's own, so that
//! neither root nor a change to the system is needed. The mirror is the one the system uses.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::cache::Cache;
use super::{SetupError, version};
use crate::files::During;
use crate::tool::{self, announce};

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Where kernels are that are newer than the system's.
const BACKPORTS: &str = "trixie-backports";
/// How the names of such suites end.
const BACKPORTS_SUFFIX: &str = "-backports";

/// apt with sources, lists and cache of the lab's own.
pub(super) struct Apt<'a> {
    cache: &'a Cache,
    /// A release of Debian's other than the system's.
    release: Option<&'static str>,
    /// Take from its backports what they have.
    backports: bool,
    updated: bool,
}

/// A package that is to be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) version: String,
}

impl Apt<'_> {
    /// Nothing is asked of the network before a package is.
    pub(super) fn new(cache: &Cache) -> Apt<'_> {
        Apt { cache, release: None, backports: false, updated: false }
    }

    /// Packages of one release of Debian's, whatever the system's.
    pub(super) fn of_release<'a>(cache: &'a Cache, release: &'static str) -> Apt<'a> {
        Apt { cache, release: Some(release), backports: false, updated: false }
    }

    /// The same, and of its backports what they have.
    pub(super) fn of_backports<'a>(cache: &'a Cache, release: &'static str) -> Apt<'a> {
        Apt { cache, release: Some(release), backports: true, updated: false }
    }

    /// The newest package whose name matches `pattern`, a regular expression, by the version in its name.
    pub(super) fn newest(&mut self, pattern: &str) -> Result<Package, SetupError> {
        self.update()?;
        let found = tool::capture(self.command("apt-cache")?.args(["search", "--names-only", pattern]))?;
        let name = found
            .lines()
            .filter_map(|line| line.split_whitespace().next())
            .max_by(|a, b| version::compare(a, b))
            .ok_or_else(|| SetupError::NoPackage { pattern: pattern.to_owned() })?;
        let show = tool::capture(self.command("apt-cache")?.args(["show", "--no-all-versions", name]))?;
        let version = show
            .lines()
            .find_map(|line| line.strip_prefix("Version: "))
            .ok_or_else(|| SetupError::NoPackage { pattern: name.to_owned() })?;
        Ok(Package { name: name.to_owned(), version: version.to_owned() })
    }

    /// Fetches a package and unpacks it into `directory`, which is then whole or not there.
    pub(super) fn unpack(&mut self, package: &Package, directory: &Path) -> Result<(), SetupError> {
        if directory.exists() {
            return Ok(());
        }
        self.update()?;
        let part = directory.with_extension("part");
        if part.exists() {
            fs::remove_dir_all(&part).during("empty", &part)?;
        }
        fs::create_dir_all(&part).during("create", &part)?;
        announce(&format!("fetching {} {}", package.name, package.version));
        let wanted = format!("{}={}", package.name, package.version);
        tool::show(self.command("apt-get")?.current_dir(&part).args(["download", &wanted]))?;
        let archive = only_entry(&part)?;
        announce(&format!("unpacking {}", package.name));
        tool::capture(Command::new("dpkg-deb").arg("--extract").arg(&archive).arg(&part))?;
        fs::remove_file(&archive).during("remove", &archive)?;
        fs::rename(&part, directory).during("put in place", directory)?;
        Ok(())
    }

    /// Fetches all that these packages need on a system that has nothing, and unpacks it into `directory`, which is then
    /// whole or not there.
    pub(super) fn unpack_whole(&mut self, packages: &[&str], directory: &Path) -> Result<(), SetupError> {
        if directory.exists() {
            return Ok(());
        }
        self.update()?;
        let nothing = self.directory("")?.join("status");
        fs::write(&nothing, "").during("write", &nothing)?;
        announce(&format!("fetching {} with all that they need", packages.join(", ")));
        let mut install = self.command("apt-get")?;
        install.arg("-o").arg(format!("Dir::State::status={}", nothing.display()));
        install.args(["install", "--download-only", "--yes", "--no-install-recommends"]).args(packages);
        tool::capture(&mut install)?;
        let part = directory.with_extension("part");
        fs::create_dir_all(&part).during("create", &part)?;
        let archives = self.directory("cache/archives")?;
        for archive in fs::read_dir(&archives).during("read", &archives)? {
            let archive = archive.during("read", &archives)?.path();
            if archive.extension().is_some_and(|extension| extension == "deb") {
                tool::capture(Command::new("dpkg-deb").arg("--extract").arg(&archive).arg(&part))?;
            }
        }
        fs::rename(&part, directory).during("put in place", directory)?;
        Ok(())
    }

    fn update(&mut self) -> Result<(), SetupError> {
        if self.updated {
            return Ok(());
        }
        let mut sources = match self.release {
            Some(release) => sources_of(release, self.backports)?,
            None => sources()?,
        };
        let file = self.directory("")?.join("sources.list");
        announce("reading the package lists");
        fs::write(&file, sources.concat()).during("write", &file)?;
        if tool::capture(self.command("apt-get")?.args(["update", "--error-on=any"])).is_err() {
            announce("not all package lists are to be had, going without the backports");
            sources.retain(|line| !line.contains(BACKPORTS_SUFFIX));
            fs::write(&file, sources.concat()).during("write", &file)?;
            tool::capture(self.command("apt-get")?.arg("update"))?;
        }
        self.updated = true;
        Ok(())
    }

    fn command(&self, program: &str) -> Result<Command, SetupError> {
        let sources = self.directory("")?.join("sources.list");
        let target =
            self.release.filter(|_| self.backports).map(|release| format!("{release}{BACKPORTS_SUFFIX}"));
        self.directory("lists/partial")?;
        self.directory("cache/archives/partial")?;
        let mut command = Command::new(program);
        for (option, value) in [
            ("Dir::Etc::SourceList", sources.as_path()),
            ("Dir::Etc::SourceParts", Path::new("/dev/null")),
            ("Dir::State::Lists", &self.directory("lists")?),
            ("Dir::Cache", &self.directory("cache")?),
            // The unprivileged user that apt switches to could not write here.
            ("APT::Sandbox::User", Path::new("root")),
            ("Acquire::Languages", Path::new("none")),
        ] {
            command.arg("-o").arg(format!("{option}={}", value.display()));
        }
        if let Some(target) = target {
            command.arg("-o").arg(format!("APT::Default-Release={target}"));
        }
        Ok(command)
    }

    fn directory(&self, name: &str) -> Result<PathBuf, SetupError> {
        let suffix = if self.backports { BACKPORTS_SUFFIX } else { "" };
        self.cache.work(&format!("apt{}{suffix}/{name}", self.release.unwrap_or_default()))
    }
}

/// One line for each suite: those of the system's release, and the backports.
fn sources() -> Result<Vec<String>, SetupError> {
    let codename = codename()?;
    let lines = source_lines(&targets()?, &codename);
    if lines.is_empty() { Err(SetupError::NoMirror { codename }) } else { Ok(lines) }
}

/// One line for a release at the mirror that has the system's, and one for its backports if they are wanted.
fn sources_of(release: &str, backports: bool) -> Result<Vec<String>, SetupError> {
    let codename = codename()?;
    let targets = targets()?;
    let suites = [release.to_owned(), format!("{release}{BACKPORTS_SUFFIX}")];
    let suites = suites.iter().take(if backports { 2 } else { 1 });
    let lines: Option<Vec<String>> = suites.map(|suite| source_line(&targets, &codename, suite)).collect();
    lines.ok_or(SetupError::NoMirror { codename })
}

/// The system's sources, as lines of "site release".
fn targets() -> Result<String, SetupError> {
    Ok(tool::capture(Command::new("apt-get").args(["indextargets", "--format", "$(SITE) $(RELEASE)"]))?)
}

/// The name of the system's release.
fn codename() -> Result<String, SetupError> {
    let release = Path::new("/etc/os-release");
    let release = fs::read_to_string(release).during("read", release)?;
    let codename = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    Ok(codename.unwrap_or("stable").to_owned())
}

/// From lines of "site release" of the system's sources.
fn source_lines(targets: &str, codename: &str) -> Vec<String> {
    let mut suites: Vec<(&str, &str)> = Vec::new();
    for (site, release) in targets.lines().filter_map(|line| line.split_once(' ')) {
        let of_debian = release == codename || release.starts_with(&format!("{codename}-"));
        if of_debian && !suites.contains(&(site, release)) {
            suites.push((site, release));
        }
    }
    let own = format!("{codename}{BACKPORTS_SUFFIX}");
    if let Some((site, _)) = suites.iter().find(|(_, release)| *release == codename).copied() {
        for backports in [own.as_str(), BACKPORTS] {
            if !suites.contains(&(site, backports)) {
                suites.push((site, backports));
            }
        }
    }
    suites.into_iter().map(|(site, release)| line(site, release)).collect()
}

/// From the same, for another release.
fn source_line(targets: &str, codename: &str, release: &str) -> Option<String> {
    let sites = targets.lines().filter_map(|line| line.split_once(' '));
    let site = sites.into_iter().find(|(_, of)| *of == codename)?.0;
    Some(line(site, release))
}

fn line(site: &str, release: &str) -> String {
    format!("deb [signed-by={KEYRING}] {site} {release} main\n")
}

fn only_entry(directory: &Path) -> Result<PathBuf, SetupError> {
    let mut entries = fs::read_dir(directory).during("read", directory)?;
    let entry = entries
        .next()
        .ok_or_else(|| SetupError::NotThere { what: "the downloaded package", path: directory.to_owned() })?;
    Ok(entry.during("read", directory)?.path())
}

#[cfg(test)]
#[path = "apt_test.rs"]
mod tests;
