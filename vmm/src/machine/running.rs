//! A run of the guest as requests see it: what [`super::control::Request`] asks for is done here, on the event loop's
//! thread.

use std::path::PathBuf;
use std::sync::Arc;

use devices::irq::{InterruptController, MsiMessage};
use devices::virtio::balloon::Balloon;
use devices::virtio::blk::Blk;
use devices::virtio::mem::Mem;
use devices::watchdog::Watchdog;
use memory::GuestRam;
use vfio::DeviceLoss;
use vmm_sys_util::eventfd::EventFd;

use super::control::{ControlError, Counters, Info, Pace, Reply, Request};
use super::ending::{End, Ending};
use super::hotplug::{Devices, PATIENCE};
use super::platform::Platform;
use super::vcpus::VcpuThreads;
use crate::acpi::POWER_BUTTON_EVENT;
use crate::coredump::{Coredump, Dumping};
use crate::hypervisor::clock::StoppedClock;
use crate::hypervisor::interrupts::KvmInterrupts;
use crate::hypervisor::vcpu::{Registers, Vcpu};
use crate::hypervisor::vm::Vm;
use crate::problem::{Class, Problem, Problems};
use crate::virtio::balloon::{self, BalloonError};
use crate::virtio::disk;
use crate::virtio::mem::MemSpec;
use crate::virtio::pmem::watch::Watch;

/// An NMI message (Intel SDM vol. 3, 11.11): to one local APIC, delivery mode 100b.
const MSI_BASE: u64 = 0xfee0_0000;
const MSI_DESTINATION_SHIFT: u32 = 12;
const MSI_DATA_NMI: u32 = 0b100 << 8;

/// A guest that runs, or is paused.
pub struct Running {
    /// How it ends.
    pub ending: Arc<Ending>,
    /// Its devices.
    pub platform: Arc<Platform>,
    /// Its vCPUs.
    pub threads: VcpuThreads,
    /// Its machine.
    pub vm: Arc<Vm>,
    /// Its interrupts.
    pub interrupts: Arc<KvmInterrupts>,
    /// RAM.
    pub ram: Arc<GuestRam>,
    /// Its passed-through devices.
    pub devices: Arc<Devices>,
    /// The disks that it started with, and their names.
    pub disks: Vec<(String, Arc<Blk>)>,
    /// Its balloon.
    pub balloon: Option<Arc<Balloon>>,
    /// Its memory that comes and goes.
    pub pluggable: Option<Arc<Mem>>,
    /// Its watchdog.
    pub watchdog: Option<Arc<Watchdog>>,
    /// Its persistent memory, to be told if a file is cut short.
    pub(crate) watched: Option<Arc<Watch>>,
    /// Whether it runs.
    pub standing: Standing,
    /// The core dump that is being written, or the last one.
    pub dumping: Option<Dumping>,
}

/// Whether the guest runs, and what is needed for it to go on.
#[derive(Default)]
pub enum Standing {
    /// It runs.
    #[default]
    Running,
    /// Its vCPUs are on their way out; these are told when the last has come.
    Pausing(Vec<Reply<()>>),
    /// It stands still.
    Paused(StoppedClock),
}

impl Running {
    /// Does what is asked for, or begins to.
    pub fn answer(&mut self, request: Request) {
        tracing::debug!(?request, "asked");
        match request {
            Request::Info(reply) => reply.send(Ok(self.info())),
            Request::Pause(reply) => self.pause(reply),
            Request::Resume(reply) => reply.send(self.resume()),
            Request::PowerButton(reply) => reply.send(self.press_power_button()),
            Request::Reboot(reply) => reply.send(self.end(End::Reset)),
            Request::Shutdown(reply) => reply.send(self.end(End::Stopped("stopped by request"))),
            Request::Nmi(reply) => reply.send(self.raise_nmi()),
            Request::Counters(reply) => reply.send(Ok(self.counters())),
            Request::Ram(reply) => reply.send(Ok(self.ram.clone())),
            Request::AddVirtio(_, reply) if !self.devices.has_ports() => {
                reply.send(Err(no_ports("adding a device")));
            }
            Request::AddVirtio(spec, reply) => self.plug(reply, move |devices| devices.add_virtio(&spec)),
            Request::AddDevice(_, reply) if !self.devices.has_ports() => {
                reply.send(Err(no_ports("adding a device")));
            }
            Request::AddDevice(address, reply) if self.balloon.is_some() => {
                let error = BalloonError::BesideVfio(vec![address]);
                reply.send(Err(ControlError::Failed(Problem::new(Class::Usage, error))));
            }
            Request::AddDevice(address, reply) => self.plug(reply, move |devices| {
                let places = devices.add(vfio::Request::at(&[address]))?;
                places.first().copied().ok_or_else(Problems::default)
            }),
            Request::RemoveDevice(_, reply) if !matches!(self.standing, Standing::Running) => {
                reply.send(Err(ControlError::State {
                    state: "paused",
                    help: "resume it: the guest is asked",
                }));
            }
            Request::RemoveDevice(name, reply) => {
                self.plug(reply, move |devices| devices.remove(&name, PATIENCE));
            }
            Request::Coredump(path, reply) => self.dump(path, reply),
            Request::ResizeDisk(id, size, reply) => match disk::find(&self.disks(), &id) {
                Some(disk) => in_background(move || {
                    let grown = disk.grow(size).map_err(|error| Problem::new(Class::Usage, error));
                    reply.send(grown.map_err(ControlError::Failed));
                }),
                None => reply.send(Err(ControlError::NoDisk(id))),
            },
            Request::ResizeBalloon(size, reply) => reply.send(self.resize_balloon(size)),
            Request::ResizeMemory(size, reply) => reply.send(self.resize_memory(size)),
        }
    }

    /// Acts on what the host says of devices. One that it wants back the guest is asked for, if it can let go of it, and
    /// the run goes on; else it ends.
    pub fn heed_host(&self) {
        for loss in self.devices.losses() {
            let running = matches!(self.standing, Standing::Running);
            match loss {
                DeviceLoss::Wanted(address) if running && self.devices.may_leave(address) => {
                    tracing::info!(%loss, "the guest is asked to let go of it");
                    let (devices, ending) = (self.devices.clone(), self.ending.clone());
                    in_background(move || {
                        if let Err(Problems(problems)) = devices.give_back(address) {
                            problems.iter().for_each(|it| tracing::warn!(problem = %it.what, "{loss}"));
                            ending.end(End::Lost(loss));
                        }
                    });
                }
                loss => self.ending.end(End::Lost(loss)),
            }
        }
    }

    /// What it is just now.
    pub fn info(&self) -> Info {
        Info {
            pace: self.pace(),
            cpus: self.threads.exits().len() as u32,
            memory: self.ram.size(),
            devices: self.devices.list(),
            plugged: self.devices.plugged(),
            balloon: self.balloon.as_ref().map(|balloon| balloon.state()),
            pluggable: self.pluggable.as_ref().map(|memory| memory.state()),
        }
    }

    fn counters(&self) -> Counters {
        Counters {
            exits: self.threads.exits(),
            threads: self.threads.ids(),
            disks: self.disks().into_iter().map(|(id, disk)| (id, disk.counts())).collect(),
            allocated: self.ram.allocated(),
        }
    }

    /// Its disks with their names.
    fn disks(&self) -> Vec<(String, Arc<Blk>)> {
        self.disks.iter().cloned().chain(self.devices.disks()).collect()
    }

    fn resize_balloon(&self, size: u64) -> Result<(), ControlError> {
        let balloon = self.balloon.as_ref().ok_or(ControlError::Unsupported {
            what: "giving memory back",
            why: "without a balloon",
            help: "start it with --balloon",
        })?;
        balloon::check_size(size, self.ram.size())
            .map_err(|error| ControlError::Failed(Problem::new(Class::Usage, error)))?;
        balloon.resize(size);
        Ok(())
    }

    fn resize_memory(&self, size: u64) -> Result<(), ControlError> {
        let memory = self.pluggable.as_ref().ok_or(ControlError::Unsupported {
            what: "plugging memory in",
            why: "without room for it",
            help: "start it with --hotplug-memory",
        })?;
        let spec = MemSpec { size: memory.state().size, plugged: size };
        spec.check(size).map_err(|error| ControlError::Failed(Problem::new(Class::Usage, error)))?;
        memory.resize(size);
        Ok(())
    }

    /// Plugs on a thread of its own, since that takes long, and answers from there.
    fn plug<T: Send + 'static>(
        &self,
        reply: Reply<T>,
        what: impl FnOnce(&Devices) -> Result<T, Problems> + Send + 'static,
    ) {
        let devices = self.devices.clone();
        let work = move || {
            let first = |problems: Problems| problems.0.into_iter().next();
            reply.send(
                what(&devices).map_err(|it| first(it).map_or(ControlError::Over, ControlError::Failed)),
            );
        };
        // A thread that cannot be started drops the reply, which answers.
        in_background(work);
    }

    /// Whether it runs.
    pub fn pace(&self) -> Pace {
        match self.standing {
            Standing::Running => Pace::Running,
            Standing::Pausing(_) => Pace::Pausing,
            Standing::Paused(_) => Pace::Paused,
        }
    }

    fn pause(&mut self, reply: Reply<()>) {
        match &mut self.standing {
            Standing::Running => {
                self.standing = Standing::Pausing(vec![reply]);
                self.threads.pause();
            }
            Standing::Pausing(waiting) => waiting.push(reply),
            Standing::Paused(_) => {
                reply.send(Err(ControlError::State { state: "paused", help: "resume it first" }));
            }
        }
    }

    /// Signalled when the last vCPU stands still; then [`Running::settle`] is to be called.
    pub fn settled(&self) -> &EventFd {
        self.threads.settled()
    }

    /// Completes a pause.
    pub fn settle(&mut self) {
        // Only that it was signalled matters.
        let _ = self.threads.settled().read();
        let Standing::Pausing(waiting) = &mut self.standing else { return };
        let vm = &self.vm;
        let Some(stopped) = self.threads.with_paused(|vcpus| {
            vcpus.sort_by_key(|vcpu| vcpu.index());
            StoppedClock::stop(vm, vcpus)
        }) else {
            return;
        };
        let waiting = std::mem::take(waiting);
        match stopped {
            Ok(clock) => {
                self.watchdog.iter().for_each(|watchdog| watchdog.stand_still());
                self.standing = Standing::Paused(clock);
                waiting.into_iter().for_each(|reply| reply.send(Ok(())));
            }
            Err(error) => {
                // A guest whose clock cannot be stopped is not paused.
                self.standing = Standing::Running;
                self.threads.resume();
                let mut waiting = waiting.into_iter();
                if let Some(first) = waiting.next() {
                    first.send(Err(error.into()));
                }
                waiting.for_each(|reply| reply.send(Err(not_running("running"))));
            }
        }
    }

    /// Begins to write a core dump of a paused guest, on a thread of its own, and answers from there.
    fn dump(&mut self, path: PathBuf, reply: Reply<()>) {
        let vcpus = match self.registers() {
            Ok(vcpus) => vcpus,
            Err(error) => return reply.send(Err(error)),
        };
        let dump = Coredump { ram: self.ram.clone(), vcpus, path };
        let answer = move |result: Result<(), _>| {
            reply.send(result.map_err(|error| ControlError::Failed(Problem::new(Class::Host, error))));
        };
        match Dumping::start(dump, answer) {
            Ok(dumping) => self.dumping = Some(dumping),
            Err(error) => tracing::error!(%error, "a core dump cannot be written"),
        }
    }

    /// The registers of a guest that stands still, and that nobody dumps yet.
    fn registers(&self) -> Result<Vec<Registers>, ControlError> {
        self.not_dumped()?;
        match self.standing {
            Standing::Running => return Err(not_running("running")),
            Standing::Pausing(_) => return Err(not_running("being paused")),
            Standing::Paused(_) => {}
        }
        // They are in their order since the pause.
        let read = |vcpus: &mut [Vcpu]| vcpus.iter().map(Vcpu::registers).collect::<Result<Vec<_>, _>>();
        Ok(self.threads.with_paused(read).ok_or(ControlError::Over)??)
    }

    /// While a core dump is being written the guest stands still.
    fn not_dumped(&self) -> Result<(), ControlError> {
        if self.dumping.as_ref().is_none_or(Dumping::is_over) {
            return Ok(());
        }
        Err(ControlError::State { state: "being dumped", help: "wait until the core dump is complete" })
    }

    /// Gives up a core dump that is being written: what it shows is about to change.
    pub fn abandon_dump(&mut self) {
        if let Some(dumping) = self.dumping.take() {
            dumping.abandon();
        }
    }

    /// Lets a paused guest go on. One that is still being paused goes on as well.
    pub fn resume(&mut self) -> Result<(), ControlError> {
        self.not_dumped()?;
        match std::mem::take(&mut self.standing) {
            Standing::Running => Err(not_running("running")),
            Standing::Pausing(waiting) => {
                waiting.into_iter().for_each(|reply| reply.send(Err(not_running("being resumed"))));
                self.threads.resume();
                Ok(())
            }
            Standing::Paused(clock) => {
                self.watchdog.iter().for_each(|watchdog| watchdog.go_on());
                let vm = &self.vm;
                let gone_on = self.threads.with_paused(|vcpus: &mut [Vcpu]| clock.go_on(vm, vcpus));
                self.threads.resume();
                gone_on.transpose()?;
                Ok(())
            }
        }
    }

    /// Presses the power button, if the guest has a driver for it. A paused guest could not hear it, and is resumed.
    pub fn press_power_button(&mut self) -> Result<(), ControlError> {
        if !self.platform.events.is_listened_to() {
            return Err(ControlError::Deaf("its power button"));
        }
        if !matches!(self.standing, Standing::Running) {
            self.resume()?;
        }
        self.platform.events.raise(POWER_BUTTON_EVENT);
        Ok(())
    }

    /// Ends the run if the guest has not reloaded its watchdog in time.
    pub fn heed_watchdog(&self) {
        if self.watchdog.as_ref().is_some_and(|watchdog| watchdog.look()) {
            self.ending.end(End::Expired);
        }
    }

    /// Ends the run if a file behind persistent memory was cut short.
    pub fn heed_files(&self) {
        if let Some(lost) = self.watched.as_ref().and_then(|watched| watched.heed(&self.ram)) {
            self.ending.end(End::CutShort(lost));
        }
    }

    fn end(&self, how: End) -> Result<(), ControlError> {
        self.ending.end(how);
        Ok(())
    }

    fn raise_nmi(&self) -> Result<(), ControlError> {
        for apic_id in 0..self.threads.exits().len() as u64 {
            // With more than 255 vCPUs the upper bits of the id go into the upper half (KVM_X2APIC_API_USE_32BIT_IDS).
            let address = MSI_BASE | (apic_id & 0xff) << MSI_DESTINATION_SHIFT | (apic_id & !0xff) << 32;
            self.interrupts.signal_msi(MsiMessage { address, data: MSI_DATA_NMI })?;
        }
        Ok(())
    }
}

fn in_background(work: impl FnOnce() + Send + 'static) {
    if let Err(error) = std::thread::Builder::new().name("plug".to_owned()).spawn(work) {
        tracing::error!(%error, "a request about a device cannot be done");
    }
}

fn no_ports(what: &'static str) -> ControlError {
    let help = "start it with root ports, as in --pcie-ports 4";
    ControlError::Unsupported { what, why: "without --pcie-ports", help }
}

fn not_running(state: &'static str) -> ControlError {
    ControlError::State { state, help: "pause it first" }
}
