//! Where on the host the threads of a machine run: each vCPU on CPUs of its own, all other threads on the housekeeping CPUs, so that
//! neither is in the other's way; and how much of its CPU a vCPU has.
//!
//! Threads inherit their CPUs from those that start them, and a device's threads are started by a vCPU, as its driver gets ready.
//! These go [home](sandbox::home) by themselves.
//!
//! # Unsafe
//! rustix has no sched_setscheduler(2).
#![expect(unsafe_code, reason = "sched_setscheduler")]

use std::collections::BTreeSet;
use std::io;
use std::thread;
use std::time::Duration;

use miette::Diagnostic;
use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};
use thiserror::Error;

use crate::problem::{Class, Problems};

/// The highest priority of SCHED_FIFO (sched_get_priority_max).
const MOST_URGENT: u8 = 99;

/// Where threads run. By default, and for whatever it does not say: wherever the host lets them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// For each vCPU from 0 up, the CPUs of the host that it may run on; none is any.
    pub vcpus: Vec<Vec<u32>>,
    /// The CPUs of the host that all other threads may run on; none is any.
    pub housekeeping: Vec<u32>,
    /// The real-time priority of vCPUs (SCHED_FIFO).
    pub realtime: Option<u8>,
    /// How long KVM polls at most when a vCPU halts, before the CPU is given to others (Documentation/virt/kvm/halt-polling.rst).
    pub halt_poll: Option<Duration>,
}

/// A placement that makes no sense, or that this host does not allow.
#[derive(Debug, Error, Diagnostic, PartialEq, Eq)]
pub enum PlacementError {
    /// As many CPUs as vCPUs, or it is not clear who runs where.
    #[error("--cpu-affinity names {named} CPUs of the host, the machine has {vcpus} vCPUs")]
    #[diagnostic(help("name one for each vCPU: the first is vCPU 0's"))]
    Count {
        /// Host CPUs.
        named: usize,
        /// vCPUs.
        vcpus: u32,
    },
    /// Two vCPUs would wait for each other.
    #[error("--cpu-affinity names CPU {0} of the host twice")]
    #[diagnostic(help("give each vCPU a CPU of its own"))]
    Twice(u32),
    /// No such priority.
    #[error("--cpu-realtime {0} is no real-time priority")]
    #[diagnostic(help("give 1 to {MOST_URGENT}; the kernel's own threads that matter have 50 and 99"))]
    Priority(u8),
    /// Longer than KVM can count.
    #[error("--halt-poll {} ms is longer than KVM can poll", .0.as_millis())]
    #[diagnostic(help(
        "give at most 4s; what helps is about as long as the guest's devices take, such as 200us"
    ))]
    HaltPoll(Duration),
    /// The host has no such CPU, or not for us.
    #[error("CPU {0} of the host cannot be used: it is not online, or a cpuset keeps vmm off it")]
    #[diagnostic(help(
        "/sys/devices/system/cpu/online and cpuset.cpus.effective of vmm's control group list those that can"
    ))]
    Unavailable(u32),
    /// Not without a right.
    #[error("vCPUs may not have the real-time priority {0}")]
    #[diagnostic(help(
        "it takes CAP_SYS_NICE, or a limit: `ulimit -r {0}`, LimitRTPRIO={0} in a systemd unit"
    ))]
    NotAllowed(u8),
}

impl Placement {
    /// Whether it says nothing.
    fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Everything that is wrong with it whatever the host.
    pub(crate) fn validate(&self, vcpus: u32, problems: &mut Problems) {
        let named = self.vcpus.len();
        if named != 0 && named != vcpus as usize {
            problems.add(Class::Usage, PlacementError::Count { named, vcpus });
        }
        // Those that have several to choose from can share them.
        let single = self.vcpus.iter().filter_map(|cpus| <[u32; 1]>::try_from(cpus.as_slice()).ok());
        let mut seen = BTreeSet::new();
        for [cpu] in single.filter(|[cpu]| !seen.insert(*cpu)) {
            problems.add(Class::Usage, PlacementError::Twice(cpu));
        }
        if let Some(priority) = self.realtime.filter(|priority| !(1..=MOST_URGENT).contains(priority)) {
            problems.add(Class::Usage, PlacementError::Priority(priority));
        }
        if let Some(time) = self.halt_poll.filter(|time| u32::try_from(time.as_nanos()).is_err()) {
            problems.add(Class::Usage, PlacementError::HaltPoll(time));
        }
    }

    /// Tries on a thread that does nothing else what the host does not allow.
    pub(crate) fn check(&self, problems: &mut Problems) {
        if self.is_default() {
            return;
        }
        let named: BTreeSet<u32> = self.vcpus.iter().flatten().chain(&self.housekeeping).copied().collect();
        let tried = thread::scope(|scope| scope.spawn(|| self.tried(&named)).join());
        for error in tried.unwrap_or_default() {
            problems.add(Class::Host, error);
        }
    }

    fn tried(&self, named: &BTreeSet<u32>) -> Vec<PlacementError> {
        let unusable = named.iter().filter(|cpu| move_to(None, &[**cpu]).is_err());
        let mut errors: Vec<_> = unusable.map(|cpu| PlacementError::Unavailable(*cpu)).collect();
        if let Some(priority) = self.realtime {
            raise_limit(priority);
        }
        if let Some(priority) = self.realtime.filter(|priority| hurry(*priority).is_err()) {
            errors.push(PlacementError::NotAllowed(priority));
        }
        errors
    }

    /// Moves all threads that there are to the housekeeping CPUs, which is where later ones will be at home.
    ///
    /// # Errors
    /// None of the CPUs can be used any more.
    pub(crate) fn keep_house(&self) -> io::Result<()> {
        if self.is_default() {
            return Ok(());
        }
        if !self.housekeeping.is_empty() {
            for task in std::fs::read_dir("/proc/self/task")? {
                let id =
                    task?.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
                match move_to(id, &self.housekeeping) {
                    // It has ended, or is a thread of the kernel's that stays where it is.
                    Ok(()) | Err(Errno::SRCH | Errno::INVAL) if id.is_some() => {}
                    moved => moved?,
                }
            }
        }
        sandbox::home::is_here()
    }

    /// Places the calling thread, which is to run this vCPU.
    ///
    /// # Errors
    /// What was possible when it was checked is so no more.
    pub(crate) fn place(&self, vcpu: u32) -> io::Result<()> {
        match self.vcpus.get(vcpu as usize) {
            Some(cpus) if !cpus.is_empty() => move_to(None, cpus)?,
            _ => {}
        }
        self.realtime.map_or(Ok(()), hurry)
    }
}

/// Has a thread, the calling one for `None`, run on these CPUs.
fn move_to(thread: Option<Pid>, cpus: &[u32]) -> rustix::io::Result<()> {
    let mut set = CpuSet::new();
    for cpu in cpus {
        let cpu = usize::try_from(*cpu).ok().filter(|cpu| *cpu < CpuSet::MAX_CPU).ok_or(Errno::INVAL)?;
        set.set(cpu);
    }
    sched_setaffinity(thread, &set)
}

/// Lets this process have the priority without the capability, which vCPUs of a later reset have no more. Only root may; whether
/// the limit suffices is seen by trying.
fn raise_limit(priority: u8) {
    let limit = Some(u64::from(priority));
    let (current, maximum) = (limit, limit.max(getrlimit(Resource::Rtprio).maximum));
    if let Err(error) = setrlimit(Resource::Rtprio, Rlimit { current, maximum }) {
        tracing::debug!(%error, priority, "limit on real-time priorities stays as it is");
    }
}

/// Gives the calling thread a real-time priority, and none to the threads that it starts.
fn hurry(priority: u8) -> io::Result<()> {
    let parameter = libc::sched_param { sched_priority: priority.into() };
    // SAFETY: the parameter lives through the call, which reads it.
    let set = unsafe {
        libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &raw const parameter)
    };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
#[path = "placement_test.rs"]
mod tests;
