//! Who else has the guest's memory: processes that map the memfd or have it open. Their references are the usual
//! reason why a page cannot be moved. Read from `/proc/*/maps` and `/proc/*/fd`, so only of processes we may look at.

use std::fmt;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::text;

/// A report names no more.
const MOST: usize = 16;

/// A process that shares the guest's memory.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Holder {
    /// Its id.
    pub pid: u32,
    /// Its name (comm).
    pub command: String,
    /// Whether it maps the memory; else it has it open.
    pub maps: bool,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.maps { "maps it" } else { "has it open" };
        write!(f, "{} (pid {}) {how}", self.command, self.pid)
    }
}

/// All processes with `memfd`, but for this one and those it started.
pub(super) fn find(memfd: &File) -> Vec<Holder> {
    let Ok(metadata) = memfd.metadata() else { return Vec::new() };
    find_in(Path::new("/proc"), metadata.dev(), metadata.ino(), std::process::id())
}

/// The same of a `/proc` elsewhere, for a process `own` and a file by its device and inode.
pub fn find_in(proc: &Path, device: u64, inode: u64, own: u32) -> Vec<Holder> {
    let mut holders = Vec::new();
    for entry in fs::read_dir(proc).into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let path = entry.path();
        if pid == own || parent(&path) == Some(own) {
            continue;
        }
        let maps = text::read(path.join("maps")).is_ok_and(|text| maps_inode(&text, device, inode));
        if maps || has_open(&path, device, inode) {
            let command = text::read(path.join("comm")).unwrap_or_default();
            holders.push(Holder { pid, command: command.trim_end().to_owned(), maps });
        }
        if holders.len() == MOST {
            break;
        }
    }
    holders.sort_unstable_by_key(|holder| holder.pid);
    holders
}

fn parent(process: &Path) -> Option<u32> {
    text::read(process.join("stat")).ok().and_then(|stat| parse_parent(&stat))
}

/// The fourth field of `/proc/PID/stat`; the second is in parentheses and may contain anything.
fn parse_parent(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// `7f0000000000-7f0000200000 rw-s 00000000 00:01 4711    /memfd:guest-ram (deleted)`
fn maps_inode(maps: &str, device: u64, inode: u64) -> bool {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    maps.lines().any(|line| {
        let mut fields = line.split_whitespace().skip(3);
        let (Some(place), Some(number)) = (fields.next(), fields.next()) else { return false };
        let hexadecimal = |text: &str| u32::from_str_radix(text, 16).ok();
        let place = place.split_once(':').and_then(|(a, b)| Some((hexadecimal(a)?, hexadecimal(b)?)));
        place == Some((major, minor)) && number.parse() == Ok(inode)
    })
}

fn has_open(process: &Path, device: u64, inode: u64) -> bool {
    let files = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    files.filter_map(|file| fs::metadata(file.path()).ok()).any(|it| (it.dev(), it.ino()) == (device, inode))
}

#[cfg(test)]
#[path = "holders_test.rs"]
mod tests;
