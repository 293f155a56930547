//! The vCPU threads of one run: each runs its vCPU until the run ends, and waits at a gate while the guest is paused.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use sandbox::Role;
use vmm_sys_util::eventfd::EventFd;
use vmm_sys_util::signal::Killable;

use super::ending::{End, Ending};
use super::gate::Gate;
use super::placement::Placement;
use super::platform::Platform;
use crate::hypervisor::exits::{ExitCounts, Exits};
use crate::hypervisor::vcpu::{Buses, GuestFailure, Stop, Vcpu, catch_kicks, kick_signal};

/// Running vCPUs.
pub struct VcpuThreads {
    shared: Arc<Shared>,
    exits: Vec<Arc<Exits>>,
    threads: Vec<JoinHandle<Vcpu>>,
}

/// What the threads share with whoever stops them.
struct Shared {
    platform: Arc<Platform>,
    ending: Arc<Ending>,
    gate: Gate<Vcpu>,
    placement: Placement,
}

impl VcpuThreads {
    /// Starts one thread for each vCPU. When one cannot be started the others are stopped again.
    pub fn start(
        vcpus: Vec<Vcpu>,
        placement: &Placement,
        platform: &Arc<Platform>,
        ending: &Arc<Ending>,
    ) -> io::Result<Self> {
        // A machine that is stopped at once kicks threads that have not begun yet.
        catch_kicks()?;
        let gate = Gate::new(vcpus.len())?;
        let (platform, ending, placement) = (platform.clone(), ending.clone(), placement.clone());
        let shared = Arc::new(Shared { platform, ending, gate, placement });
        let exits = vcpus.iter().map(|vcpu| vcpu.exits().clone()).collect();
        let mut running = Self { shared: shared.clone(), exits, threads: Vec::with_capacity(vcpus.len()) };
        for vcpu in vcpus {
            let shared = shared.clone();
            let name = format!("vcpu{}", vcpu.index());
            match thread::Builder::new().name(name).spawn(move || run(vcpu, &shared)) {
                Ok(thread) => running.threads.push(thread),
                Err(error) => {
                    running.shared.ending.end(End::Stopped("a vCPU thread could not be started"));
                    running.stop();
                    return Err(error);
                }
            }
        }
        Ok(running)
    }

    /// Sends every vCPU out of the guest and to the gate. [`VcpuThreads::settled`] is signalled when all are there: one
    /// may be held up by a console that nobody reads.
    pub fn pause(&self) {
        self.shared.gate.close();
        self.kick();
    }

    /// Signalled when all vCPUs stand still.
    pub fn settled(&self) -> &EventFd {
        self.shared.gate.settled()
    }

    /// Works on the vCPUs if all of them stand still.
    pub fn with_paused<R>(&self, work: impl FnOnce(&mut [Vcpu]) -> R) -> Option<R> {
        self.shared.gate.with_all(work)
    }

    /// Lets the vCPUs go on.
    pub fn resume(&self) {
        self.shared.gate.open();
    }

    /// Why each vCPU has left the guest.
    pub fn exits(&self) -> Vec<ExitCounts> {
        self.exits.iter().map(|exits| exits.counts()).collect()
    }

    /// The number of each vCPU's thread.
    pub fn ids(&self) -> Vec<i32> {
        self.exits.iter().map(|exits| exits.thread()).collect()
    }

    /// Makes every vCPU leave the guest and gives them back. The run must have ended.
    pub fn stop(self) -> Vec<Vcpu> {
        debug_assert!(self.shared.ending.is_over());
        self.kick();
        self.shared.gate.wake();
        // A vCPU thread cannot panic: the release profile aborts on panic.
        self.threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
    }

    fn kick(&self) {
        for thread in &self.threads {
            if let Err(error) = thread.kill(kick_signal()) {
                tracing::debug!(%error, "vCPU thread not signalled");
            }
        }
    }
}

fn run(mut vcpu: Vcpu, shared: &Shared) -> Vcpu {
    if let Err(error) = shared.placement.place(vcpu.index()) {
        tracing::error!(%error, vcpu = vcpu.index(), "a vCPU's thread cannot run where it is to");
        shared.ending.end(End::Stopped("a vCPU's thread cannot run where it is to"));
    }
    Role::Vcpu.enter();
    vcpu.exits().begin();
    loop {
        vcpu = shared.gate.pass(vcpu, Vcpu::index, &shared.ending);
        if shared.ending.is_over() {
            return vcpu;
        }
        if let Err(failure) = run_until_stopped(&mut vcpu, shared) {
            shared.ending.end(End::Failed(failure));
        }
    }
}

fn run_until_stopped(vcpu: &mut Vcpu, shared: &Shared) -> Result<(), GuestFailure> {
    let Shared { platform, ending, gate, .. } = shared;
    let index = vcpu.index();
    let end_of_interrupt = |vector| platform.ioapic.end_of_interrupt(vector);
    let buses = Buses { pio: &platform.pio, mmio: &platform.mmio, end_of_interrupt: &end_of_interrupt };
    let mut vcpu = vcpu.enter().map_err(|error| GuestFailure::Unexpected {
        vcpu: index,
        exit: format!("no signal handler: {error}"),
    })?;
    // Both are looked at after the vCPU is this thread's: a kick before that is lost.
    while !ending.is_over() && !gate.is_closed() {
        match vcpu.run(&buses)? {
            Stop::Kicked => vcpu.rearm(),
            Stop::Action(action) => ending.act(action),
        }
    }
    Ok(())
}
