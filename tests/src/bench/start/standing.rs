//! A monitor whose guest does nothing: how much memory it holds besides the guest's, and how often its own threads wake up.

use std::collections::BTreeMap;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde::Serialize;

use super::MEMORY_MIB;
use super::contender::Contender;

/// How long wake-ups are counted.
const WATCH: Duration = Duration::from_secs(3);

/// What a monitor with an idle guest is like.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Standing {
    /// Resident memory of all mappings but guest RAM.
    pub(super) resident_kib: u64,
    /// The same by what is mapped, the largest of them.
    pub(super) mappings_kib: BTreeMap<String, u64>,
    pub(super) threads: usize,
    /// How often threads that do not run the guest were switched to in [`WATCH`]; `None` if there is none.
    pub(super) wakeups: Option<u64>,
}

/// Runs `command` with an idle guest, and looks.
pub(super) fn look(mut command: Command, contender: &Contender) -> Result<Standing, String> {
    let said = |error: std::io::Error| error.to_string();
    let child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().map_err(said)?;
    let mut child = Killed(child);
    let mut byte = [0; 1];
    let heard = child.0.stdout.as_mut().map_or(Ok(0), |stdout| stdout.read(&mut byte)).map_err(said)?;
    if heard == 0 {
        return Err("the idle guest was not heard of".to_owned());
    }
    // What the start still has to finish is no wake-up, and memory may shrink meanwhile.
    std::thread::sleep(Duration::from_millis(200));
    let pid = child.0.id();
    let before = switches(pid, contender).map_err(said)?;
    std::thread::sleep(WATCH);
    let after = switches(pid, contender).map_err(said)?;
    let mappings_kib = resident(&std::fs::read_to_string(format!("/proc/{pid}/smaps")).map_err(said)?);
    Ok(Standing {
        resident_kib: mappings_kib.values().sum(),
        mappings_kib,
        threads: std::fs::read_dir(format!("/proc/{pid}/task")).map_err(said)?.count(),
        wakeups: before.zip(after).map(|(before, after)| after.saturating_sub(before)),
    })
}

/// A child that does not outlive this.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How often the threads that do not run the guest were switched to; `None` if there is none.
fn switches(pid: u32, contender: &Contender) -> std::io::Result<Option<u64>> {
    let mut all = None;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        // One that has just ended does not wake up.
        let Ok(status) = std::fs::read_to_string(thread?.path().join("status")) else { continue };
        if !contender.runs_guest(field(&status, "Name:").unwrap_or_default()) {
            let own: u64 = ["voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:"]
                .iter()
                .filter_map(|name| field(&status, name)?.parse::<u64>().ok())
                .sum();
            all = Some(all.unwrap_or(0) + own);
        }
    }
    Ok(all)
}

/// A line of proc_pid_status(5).
fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

/// Resident KiB of a process by what is mapped, from proc_pid_smaps(5). Mappings as large as guest RAM are guest RAM.
fn resident(smaps: &str) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    let (mut name, mut is_ram) = ("", false);
    for line in smaps.lines() {
        let mut words = line.split_whitespace();
        let (Some(first), Some(second)) = (words.next(), words.next()) else { continue };
        match first {
            "Size:" => is_ram = second == (u64::from(MEMORY_MIB) << 10).to_string(),
            "Rss:" if !is_ram => {
                *all.entry(name.to_owned()).or_insert(0) += second.parse::<u64>().unwrap_or(0)
            }
            first if first.ends_with(':') => {}
            // START-END PERMISSIONS OFFSET DEVICE INODE [NAME]
            _ => name = words.nth(3).unwrap_or("anonymous"),
        }
    }
    all.retain(|_, kib| *kib > 0);
    all
}

#[cfg(test)]
#[path = "standing_test.rs"]
mod tests;
