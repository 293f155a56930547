//! `cargo lab test --rules`: which system calls vmm's threads make in a whole run of the suite, so that nothing is allowed that nobody needs. The kernel of
//! lab hosts counts them (Documentation/trace/histogram.rst), by the thread's name, the call, and the arguments that the sandbox's
//! table looks at. That none is missing is seen by itself: the machines of all cases run in the sandbox.

use std::collections::BTreeSet;

use sandbox::Role;
use sandbox::names;
use sandbox::table::{Row, Rule, TABLE, When};

use crate::host::{Host, HostError};

/// Threads by the start of their names (at most 15 bytes, as the kernel keeps them), and what they are.
const THREADS: [(&str, Role); 16] = [
    // Pin helpers, which the API's threads may start too: as they are executed, and as they call themselves.
    ("exe", Role::Api),
    ("vmm-pin-helper", Role::Api),
    ("vmm", Role::Main),
    ("plug", Role::Main),
    ("coredump", Role::Main),
    ("pin", Role::Pin),
    ("memory", Role::Pin),
    ("iommu", Role::Pin),
    ("load", Role::Main),
    ("marks", Role::Main),
    ("vcpu", Role::Vcpu),
    ("virtio-", Role::Device),
    ("vhost-", Role::Device),
    ("disk", Role::Device),
    ("api", Role::Api),
    ("events", Role::Events),
];

/// Arguments that rules look at, by what the kernel calls them (its SYSCALL_DEFINEs).
const ARGUMENTS: [(&str, u8, &str); 9] = [
    ("ioctl", 1, "cmd"),
    ("mmap", 2, "prot"),
    ("mprotect", 2, "prot"),
    ("fcntl", 1, "cmd"),
    ("prctl", 0, "option"),
    ("clone", 0, "clone_flags"),
    ("socket", 0, "family"),
    ("openat", 2, "flags"),
    ("sched_setaffinity", 0, "pid"),
];

/// Behind each histogram.
const END: &str = "--- that was it";
const EVENTS: &str = "/sys/kernel/tracing/events";

/// A call that a thread has made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Made {
    thread: usize,
    call: usize,
    /// The argument that a rule may look at, if it was counted by that.
    argument: Option<(u8, u64)>,
}

/// All calls of a run.
#[derive(Debug, Default)]
pub(super) struct Calls(BTreeSet<Made>);

/// Has the host count from now on.
pub(super) fn count(host: &Host) -> Result<(), HostError> {
    let names: Vec<String> = THREADS.iter().map(|(name, _)| format!("comm ~ \"{name}*\"")).collect();
    let condition = names.join(" || ");
    let mut script = format!("cd {EVENTS}\n");
    for (event, field) in events() {
        script +=
            &format!("echo 'hist:keys=common_comm,{field}:size=8192 if {condition}' > {event}/trigger\n");
    }
    host.errand(&["sh", "-e", "-c", &script], &[]).map(drop)
}

/// Each kind of event that is counted, and the field that it is counted by.
fn events() -> impl Iterator<Item = (String, &'static str)> {
    let others = ARGUMENTS.iter().map(|(call, _, field)| (format!("syscalls/sys_enter_{call}"), *field));
    std::iter::once(("raw_syscalls/sys_enter".to_owned(), "id")).chain(others)
}

impl Calls {
    /// Adds what the host has counted.
    pub(super) fn add(&mut self, host: &Host) -> Result<(), HostError> {
        let script: String =
            events().map(|(event, _)| format!("cat {EVENTS}/{event}/hist; echo {END};\n")).collect();
        let text = host.errand(&["sh", "-e", "-c", &script], &[])?;
        let text = String::from_utf8_lossy(&text);
        for (index, ((_, field), text)) in events().zip(text.split(END)).enumerate() {
            let argument = index.checked_sub(1).and_then(|index| ARGUMENTS.get(index));
            self.0.extend(read(text, field, argument.map(|(call, place, _)| (*call, *place))));
        }
        Ok(())
    }

    /// Rules that nobody for whom they are has needed, a line each.
    pub(super) fn unused(&self) -> Vec<String> {
        let mut unused = Vec::new();
        for row in TABLE {
            for rule in row.rules {
                let makers: BTreeSet<usize> =
                    self.0.iter().filter(|made| made.is_under(rule)).map(|made| made.thread).collect();
                let used = makers.iter().any(|thread| is_by(*thread, row.roles));
                if !used && rule.rarely.is_none() {
                    let name = names::name(rule.call as usize);
                    let (when, Row { what, roles, .. }) = (rule.when, row);
                    let others: Vec<&str> =
                        makers.iter().filter_map(|thread| Some(THREADS.get(*thread)?.0)).collect();
                    let others = if others.is_empty() { "nobody".to_owned() } else { others.join(", ") };
                    unused.push(format!("{name} ({when:?}) for {roles:?}, \"{what}\": needed by {others}"));
                }
            }
        }
        unused
    }
}

/// Whether a thread has one of the roles, or is of what those start.
fn is_by(thread: usize, roles: &[Role]) -> bool {
    let by = THREADS.get(thread).map(|(_, role)| *role);
    by.is_some_and(|by| roles.iter().any(|role| role.may(by)))
}

impl Made {
    fn is_under(&self, rule: &Rule) -> bool {
        let value =
            |place: u8| self.argument.filter(|(it, _)| *it == place).map(|(_, value)| value & 0xffff_ffff);
        self.call == rule.call as usize
            && match rule.when {
                When::Always => true,
                When::Is(place, expected) => value(place) == Some(expected),
                When::Bits(place, mask, expected) => {
                    value(place).is_some_and(|value| value & mask == expected)
                }
            }
    }
}

/// The entries of a histogram, such as `{ common_comm: vcpu0           , cmd:      44672 } hitcount:        123`.
fn read(text: &str, field: &str, argument: Option<(&str, u8)>) -> Vec<Made> {
    let number = |call: &str| (0..512).find(|number| names::name(*number) == call);
    let entry = |line: &str| {
        let keys = line.trim().strip_prefix('{')?.split_once('}')?.0;
        let key = |name: &str| {
            let mut pairs = keys.split(',').filter_map(|pair| pair.split_once(':'));
            pairs.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim())
        };
        let comm = key("common_comm")?;
        let thread = THREADS.iter().position(|(name, _)| comm.starts_with(name))?;
        // Numbers are printed as signed or unsigned, as the field is.
        let value = key(field)?;
        let value =
            value.parse::<u64>().ok().or_else(|| value.parse::<i64>().ok().map(|value| value as u64))?;
        Some(match argument {
            None => Made { thread, call: usize::try_from(value).ok()?, argument: None },
            Some((call, place)) => Made { thread, call: number(call)?, argument: Some((place, value)) },
        })
    };
    text.lines().filter_map(entry).collect()
}

#[cfg(test)]
#[path = "calls_test.rs"]
mod tests;
