//! The vCPU threads of one run: each runs its vCPU until the run ends.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use vmm_sys_util::signal::Killable;

use super::ending::{End, Ending};
use super::platform::Platform;
use crate::hypervisor::vcpu::{Buses, GuestFailure, Stop, Vcpu, kick_signal};

/// Running vCPUs.
pub struct VcpuThreads {
    ending: Arc<Ending>,
    threads: Vec<JoinHandle<Vcpu>>,
}

impl VcpuThreads {
    /// Starts one thread for each vCPU. When one cannot be started the others are stopped again.
    pub fn start(vcpus: Vec<Vcpu>, platform: &Arc<Platform>, ending: &Arc<Ending>) -> io::Result<Self> {
        let mut running = Self { ending: ending.clone(), threads: Vec::with_capacity(vcpus.len()) };
        for vcpu in vcpus {
            let (platform, ending) = (platform.clone(), ending.clone());
            let name = format!("vcpu{}", vcpu.index());
            match thread::Builder::new().name(name).spawn(move || run(vcpu, &platform, &ending)) {
                Ok(thread) => running.threads.push(thread),
                Err(error) => {
                    running.ending.end(End::Stopped("a vCPU thread could not be started"));
                    running.stop();
                    return Err(error);
                }
            }
        }
        Ok(running)
    }

    /// Makes every vCPU leave the guest and gives them back. The run must have ended.
    pub fn stop(self) -> Vec<Vcpu> {
        debug_assert!(self.ending.is_over());
        for thread in &self.threads {
            if let Err(error) = thread.kill(kick_signal()) {
                tracing::debug!(%error, "vCPU thread not signalled");
            }
        }
        // A vCPU thread cannot panic: the release profile aborts on panic.
        self.threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
    }
}

fn run(mut vcpu: Vcpu, platform: &Platform, ending: &Ending) -> Vcpu {
    if let Err(failure) = run_until_over(&mut vcpu, platform, ending) {
        ending.end(End::Failed(failure));
    }
    vcpu
}

fn run_until_over(vcpu: &mut Vcpu, platform: &Platform, ending: &Ending) -> Result<(), GuestFailure> {
    let index = vcpu.index();
    let end_of_interrupt = |vector| platform.ioapic.end_of_interrupt(vector);
    let buses = Buses { pio: &platform.pio, mmio: &platform.mmio, end_of_interrupt: &end_of_interrupt };
    let mut vcpu = vcpu.enter().map_err(|error| GuestFailure::Unexpected {
        vcpu: index,
        exit: format!("no signal handler: {error}"),
    })?;
    while !ending.is_over() {
        match vcpu.run(&buses)? {
            Stop::Kicked => vcpu.rearm(),
            Stop::Action(action) => ending.act(action),
        }
    }
    Ok(())
}
