//! Which kernel modules the passed-through devices need in a guest, and in which order.
//!
//! Reads what depmod(8) left in a modules directory, `modules.alias` and `modules.dep` in modules.dep(5)'s
//! text form, and each device's `modalias` from sysfs. Nothing here fails: a kernel with its drivers built in
//! needs no modules, so whatever is missing is a note that the guest's summary repeats.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::io;
use std::path::{Component, Path, PathBuf};

use super::{glob, read_file};

/// Largest index file read, in bytes; a distribution's modules.alias has about 2 MiB.
const INDEX_MAX: u64 = 64 << 20;

/// Modules for a guest.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct ModuleSet {
    /// Files on the host, each after all that it depends on.
    pub(crate) files: Vec<PathBuf>,
    /// What the guest's summary should say, one line each.
    pub(crate) notes: Vec<String>,
}

/// Reads the modalias of each PCI function (`0000:00:01.0`) from the host's sysfs, mounted at `sys`.
///
/// A function without one yields nothing.
pub(crate) fn modaliases(sys: &Path, functions: impl IntoIterator<Item = impl Display>) -> Vec<String> {
    let read = |function: &str| {
        let path = sys.join("bus/pci/devices").join(function).join("modalias");
        Some(String::from_utf8_lossy(&read_file(&path, 4096).ok()?).trim().to_owned())
    };
    functions.into_iter().filter_map(|function| read(&function.to_string())).collect()
}

/// Finds in `dir` (`/lib/modules/VERSION`) the modules for the devices with these modaliases.
#[must_use]
pub(crate) fn resolve(dir: &Path, modaliases: &[String]) -> ModuleSet {
    let mut set = ModuleSet::default();
    if modaliases.is_empty() {
        return set;
    }
    let index = |name: &str| {
        let path = dir.join(name);
        read_file(&path, INDEX_MAX).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).map_err(
            |error| match error.kind() {
                io::ErrorKind::NotFound => format!("no modules in {}, built-in drivers only", dir.display()),
                _ => format!("no modules, built-in drivers only: {}: {error}", path.display()),
            },
        )
    };
    let (aliases, dependencies) = match (index("modules.alias"), index("modules.dep")) {
        (Ok(aliases), Ok(dependencies)) => (aliases, dependencies),
        (Err(note), _) | (_, Err(note)) => {
            set.notes.push(note);
            return set;
        }
    };
    let mut wanted = Vec::new();
    for modalias in modaliases {
        let found = modules_for(&aliases, modalias);
        if found.is_empty() {
            set.notes.push(format!("no module claims {modalias}: its driver is built in, or there is none"));
        }
        wanted.extend(found);
    }
    let (paths, notes) = Dependencies::parse(&dependencies).load_order(&wanted);
    set.files = paths.into_iter().map(|path| dir.join(path)).collect();
    set.notes.extend(notes);
    set
}

/// Names of the modules that `modules.alias` gives for a modalias, in its order, each once.
fn modules_for<'a>(aliases: &'a str, modalias: &str) -> Vec<&'a str> {
    let mut found = Vec::new();
    for line in aliases.lines() {
        let entry = line.strip_prefix("alias ").and_then(|entry| entry.rsplit_once(' '));
        if let Some((pattern, module)) = entry
            && !found.contains(&module)
            && glob::matches(pattern.trim(), modalias)
        {
            found.push(module);
        }
    }
    found
}

/// `modules.dep`, by module name with `-` read as `_`, as the kernel's tools do.
struct Dependencies<'a> {
    modules: BTreeMap<String, (&'a str, Vec<String>)>,
}

impl<'a> Dependencies<'a> {
    fn parse(text: &'a str) -> Self {
        let entry = |line: &'a str| {
            let (path, needs) = line.split_once(':')?;
            // A path that leaves the directory is no module of this kernel.
            let inside = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
            inside.then(|| {
                let needs = needs.split_ascii_whitespace().map(module_name).collect();
                (module_name(path), (path, needs))
            })
        };
        Self { modules: text.lines().filter_map(entry).collect() }
    }

    /// Paths of these modules and all they need, dependencies first, and notes about those that are missing.
    fn load_order(&self, wanted: &[&str]) -> (Vec<&'a str>, Vec<String>) {
        let (mut order, mut notes) = (Vec::new(), Vec::new());
        let mut seen = BTreeSet::new();
        // A stack of our own: a hostile modules.dep may chain its lines as deep as it likes.
        let mut pending: Vec<(String, bool)> =
            wanted.iter().rev().map(|name| (module_name(name), false)).collect();
        while let Some((name, dependencies_done)) = pending.pop() {
            let Some((path, needs)) = self.modules.get(&name) else {
                if seen.insert(name.clone()) {
                    notes.push(format!("module {name} is not in modules.dep"));
                }
                continue;
            };
            if dependencies_done {
                order.push(*path);
            } else if seen.insert(name.clone()) {
                pending.push((name, true));
                // modules.dep lists what must be loaded first last.
                pending.extend(needs.iter().map(|need| (need.clone(), false)));
            }
        }
        (order, notes)
    }
}

/// The name of the module in a file: its base name up to the first dot, with underscores.
pub(crate) fn module_name(path: &str) -> String {
    let base = path.rsplit('/').next().unwrap_or(path);
    base.split('.').next().unwrap_or(base).replace('-', "_")
}

#[cfg(test)]
#[path = "modules_test.rs"]
mod tests;
