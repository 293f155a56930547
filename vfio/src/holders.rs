//! Which processes have which device nodes open, as far as /proc lets us see (proc(5), `/proc/pid/fd`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::sysfs::Host;
use crate::text;

/// Holders of one node that are named; of more it is said how many.
const NAMED: usize = 4;

/// The device nodes that were open at some moment.
#[derive(Debug, Default)]
pub struct OpenNodes {
    holders: BTreeMap<PathBuf, Vec<Holder>>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Holder {
    pid: u32,
    name: String,
}

impl OpenNodes {
    /// Looks through all processes once. Without privileges only one's own can be looked at.
    pub fn scan(host: &Host) -> Self {
        let mut holders: BTreeMap<PathBuf, Vec<Holder>> = BTreeMap::new();
        for process in fs::read_dir(&host.proc).into_iter().flatten().flatten() {
            let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let fds = fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
            let targets = fds.filter_map(|fd| fs::read_link(fd.path()).ok());
            let mut nodes: Vec<PathBuf> = targets.filter(|path| path.starts_with(&host.dev)).collect();
            nodes.sort_unstable();
            nodes.dedup();
            if nodes.is_empty() {
                continue;
            }
            let name = text::read_or_empty(&process.path().join("comm")).trim().to_owned();
            for node in nodes {
                holders.entry(node).or_default().push(Holder { pid, name: name.clone() });
            }
        }
        Self { holders }
    }

    /// Who has `node` open, as in `qemu-system-x86 (pid 4711)`. `None`: nobody that can be seen.
    pub fn of(&self, node: &Path) -> Option<String> {
        self.of_any(&[node.to_owned()], None)
    }

    /// Who besides process `own` has one of these nodes open.
    pub(crate) fn of_any(&self, nodes: &[PathBuf], own: Option<u32>) -> Option<String> {
        let all = nodes.iter().filter_map(|node| self.holders.get(node)).flatten();
        let holders: BTreeSet<&Holder> = all.filter(|holder| own != Some(holder.pid)).collect();
        let name = |holder: &&Holder| format!("{} (pid {})", holder.name, holder.pid);
        let mut names: Vec<String> = holders.iter().take(NAMED).map(name).collect();
        if holders.len() > NAMED {
            names.push(format!("{} more", holders.len() - NAMED));
        }
        (!names.is_empty()).then(|| names.join(", "))
    }
}
