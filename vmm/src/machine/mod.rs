//! A machine from its start to its end.
//!
//! What is expensive or must not change lives for the whole session: the KVM machine, RAM, the opened devices with
//! their DMA maps, the vCPUs. What a reset sets back is made anew for every run of the guest: the [`platform`] with
//! all emulated devices, the loaded kernel, the vCPUs' registers. So a reboot cannot leave stale state behind.

pub mod aside;
pub mod confined;
pub mod control;
pub mod ending;
pub mod events;
mod files;
mod gate;
#[cfg(test)]
mod gate_model_test;
#[cfg(test)]
mod gate_test;
pub mod hotplug;
mod lean;
pub mod output;
pub mod phases;
pub mod placement;
pub mod platform;
pub mod running;
pub mod seats;
pub mod signals;
pub mod space;
mod sync;
pub mod vcpus;

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use devices::pci::{Devfn, PciAddress, PciFunction};
use devices::pvpanic::Pvpanic;
use devices::virtio::VirtioPci;
use devices::virtio::iommu::Iommu;
use devices::virtio::mem::Mem;
use devices::virtio::pci::Surroundings;
use devices::virtio::pmem::Pmem;
use devices::watchdog::Watchdog;
use memory::layout::AddressLimits;
use memory::pin::{self, PinError, PinReport};
use memory::{GuestRam, Layout};
use vfio::Passthrough;

use crate::acpi::{AcpiSpec, AcpiTables, Viot};
use crate::boot;
use crate::hypervisor::cpuid::Features;
use crate::hypervisor::interrupts::KvmInterrupts;
use crate::hypervisor::vcpu::{GuestFailure, Vcpu};
use crate::hypervisor::vm::Vm;
use crate::numa;
use crate::preflight::Plan;
use crate::problem::{Class, Problem, Problems, Unexpected};
use crate::spec::{OnExit, OnExpiry, OnPanic, Serial};
use crate::virtio::pmem::watch::Watch;
use crate::virtio::pmem::{self, lost};
use control::{DevicePlace, PluggedPlace, Requests};
use ending::{End, Ending};
use events::{Input, Outside};
use hotplug::blocks::Keeper;
use hotplug::{Devices, Means, Session};
use output::Output;
use phases::{Phase, Phases};
use platform::{Parts, Platform};
use running::{Running, Standing};
use seats::Seat;
use signals::Signals;
use space::DeviceMemory;
use vcpus::VcpuThreads;

/// How a machine has ended that does not run again after a reset.
const RESET_STOPS: &str = "stopped: a reset was asked for, and --on-reboot is stop";

/// Something worth telling the operator.
#[derive(Debug)]
pub enum Event<'a> {
    /// Guest memory is being pinned: bytes done, bytes in all.
    Pinning(&'a pin::Progress),
    /// Guest memory is pinned and mapped for the devices.
    Pinned(&'a PinReport),
    /// Guest memory could not be pinned; the machine is given up.
    PinFailed(&'a PinError),
    /// The machine is built; the guest runs next. How long each phase took.
    Starting(&'a [Phase]),
    /// The guest asked for a reset and runs again.
    Rebooting,
    /// Guest memory is being pinned for a device that is plugged in while the guest runs. `None`: not any more.
    Plugging(Option<&'a pin::Progress>),
    /// A device was plugged in. For the first one guest memory was pinned.
    Plugged {
        /// Its functions.
        places: &'a [DevicePlace],
        /// What pinning came to.
        pinned: Option<&'a PinReport>,
    },
    /// A device was unplugged and is the host's again.
    Unplugged {
        /// Its functions.
        hosts: &'a [PciAddress],
    },
    /// A virtio device was plugged in.
    VirtioPlugged(&'a PluggedPlace),
    /// A virtio device was unplugged; the host has all of it again.
    VirtioUnplugged {
        /// Its name.
        id: &'a str,
    },
    /// A signal asked the machine to end, and the guest's power button was pressed. It has so long.
    AskedToPowerOff {
        /// `SIGTERM`.
        signal: &'static str,
        /// How long.
        grace: Duration,
    },
    /// The guest powered off, and the process stays to answer requests.
    Kept,
    /// The operator asked what the console keys do.
    ConsoleHelp,
}

/// Told what happens, from several threads. Must not block for long.
pub trait Observer: Send + Sync {
    /// Something happened.
    fn notify(&self, event: &Event);
}

/// The operator's end of the serial port.
pub struct Console {
    /// Where the operator types.
    pub input: Input,
    /// Where what the guest prints goes.
    pub output: File,
    /// Whether what it prints while nobody reads is lost; else the guest waits.
    pub lossy: bool,
}

/// How the machine ended, if nothing failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The guest powered off.
    PoweredOff,
    /// The guest wrote this to the debug-exit port.
    DebugExit(u32),
    /// The operator ended it; how.
    Stopped(&'static str),
}

/// The guest failed.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("the guest failed")]
#[diagnostic(help(
    "the guest's console shows what it did last; the kernel must fit this CPU and be given enough --memory"
))]
struct Failed(#[source] GuestFailure);

/// The guest said that it panicked.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("the guest has panicked")]
#[diagnostic(help(
    "its console shows why: look for `Kernel panic`; with --on-panic reset it would run again"
))]
struct Panicked;

/// The guest's watchdog ran out.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("the guest has not reloaded its watchdog in time")]
#[diagnostic(help(
    "it hangs, or what reloads the watchdog in it does not run any more; with --watchdog reset it would run again"
))]
struct Expired;

/// A machine that can run.
pub struct Machine {
    // Dropped in this order: whoever uses a thing goes before it.
    vcpus: Vec<Vcpu>,
    devices: Arc<Devices>,
    space: Arc<DeviceMemory>,
    interrupts: Arc<KvmInterrupts>,
    vm: Arc<Vm>,
    ram: Arc<GuestRam>,
    layout: Layout,
    acpi: AcpiTables,
    plan: Plan,
    /// Its persistent memory.
    watched: Option<Arc<Watch>>,
    phases: Phases,
    /// Whether the last reset was the watchdog's, which the guest can see.
    watchdog_expired: Arc<AtomicBool>,
    observer: Arc<dyn Observer>,
}

impl Machine {
    /// Builds what `plan` says. Whatever fails, everything is given back.
    pub fn build(mut plan: Plan, observer: Arc<dyn Observer>) -> Result<Self, Problems> {
        let cpus = plan.spec.cpus;
        let mut phases = Phases::start();
        files::raise_limit();
        let mut vm =
            Vm::new(&plan.hypervisor).map_err(Unexpected::during("cannot create the virtual machine"))?;
        let polled = plan.spec.placement.halt_poll.map_or(Ok(()), |most| vm.set_halt_poll(most));
        polled.map_err(Unexpected::during("KVM does not take --halt-poll"))?;
        phases.done("create machine");

        let mut link = None;
        let (mut passthrough, mut confined) = (None, Vec::new());
        if let Some(devices) = plan.devices.take() {
            let made = vm.vfio_link().map_err(Unexpected::during("cannot link the machine to VFIO"))?;
            link = Some(Arc::new(made));
            let open = |devices| Passthrough::open(devices, link.clone()).map_err(Problem::of(Class::Host));
            let (shared, groups) = devices.split();
            passthrough = Some(shared).filter(|shared| !shared.is_empty()).map(open).transpose()?;
            confined = groups.into_iter().map(open).collect::<Result<_, _>>()?;
        }
        phases.done("open devices");

        let limits = AddressLimits {
            phys_bits: plan.hypervisor.phys_bits(),
            iova: passthrough.as_ref().map(|passthrough| passthrough.aperture().ranges),
        };
        let mut layout = Layout::with_room(plan.spec.memory, plan.spec.room(), &limits)
            .map_err(Problem::of(Class::Usage))?;
        layout.add_persistent(&plan.virtio.persistent(), &limits).map_err(Problem::of(Class::Usage))?;
        let bars: Vec<u64> = passthrough.iter().chain(&confined).flat_map(Passthrough::bar_sizes).collect();
        if layout.make_room(&bars, &limits) {
            tracing::warn!(window = %layout.mmio64, "the BARs of the devices do not fit into what the IOMMU maps: no peer-to-peer DMA");
        }
        let mut ram = GuestRam::backed(&layout, plan.spec.backing).map_err(Problem::of(Class::Memory))?;
        numa::bind(&plan.spec.numa, &layout, &mut ram).map_err(Problem::of(Class::Memory))?;
        pmem::attach(&plan.virtio.pmems, &layout, &mut ram).map_err(Problem::of(Class::Memory))?;
        let ram = Arc::new(ram);
        phases.done("lay out memory");

        if passthrough.is_some() || plan.spec.prefault {
            let progress = |progress: pin::Progress| observer.notify(&Event::Pinning(&progress));
            let mapper = passthrough.as_ref().map(|it| it.space().as_ref() as &dyn pin::DmaMapper);
            let report = pin::bring_up(&ram, mapper, &plan.spec.pin, &progress)
                .inspect_err(|error| observer.notify(&Event::PinFailed(error)))
                .map_err(Problem::of(Class::Memory))?;
            phases.moved("pin and map memory", Some(ram.size()));
            observer.notify(&Event::Pinned(&report));
        }

        vm.set_ram(ram.clone()).map_err(Unexpected::during("cannot give the machine its memory"))?;
        let vm = Arc::new(vm);
        let interrupts =
            vm.create_irqchip(cpus).map_err(Unexpected::during("cannot create the interrupt controller"))?;
        let features = Features {
            cpus,
            tsc_deadline: plan.hypervisor.has_tsc_deadline_timer(),
            extended_destinations: vm.extended_destinations(cpus),
        };
        let vcpus = (0..cpus)
            .map(|index| Vcpu::new(&plan.hypervisor, &vm, index, &features))
            .collect::<Result<Vec<_>, _>>()
            .map_err(Unexpected::during("cannot create the vCPUs"))?;
        phases.done("create vCPUs");

        let space = Arc::new(DeviceMemory::new(vm.clone()));
        let means = Means {
            vm: vm.clone(),
            ram: ram.clone(),
            cpus,
            phys_bits: plan.hypervisor.phys_bits(),
            controller: interrupts.clone(),
            space: space.clone(),
            pin: plan.spec.pin.clone(),
            observer: observer.clone(),
        };
        let plugged = std::mem::take(&mut plan.plugged);
        let session = Session { link, passthrough, confined };
        let devices = Devices::new(means, session, &plan.guests, plugged, plan.spec.pcie_ports)?;
        if let Some(pluggable) = &plan.spec.pluggable {
            let keeper = Keeper::start(&devices, plan.spec.prefault);
            let keeper = keeper.map_err(Unexpected::during("cannot start a thread"))?;
            let device = Arc::new(Mem::new(ram.clone(), Box::new(keeper), pluggable.plugged));
            plan.virtio.all.push(device.clone());
            plan.virtio.pluggable = Some(device);
        }
        let watched = Watch::start(&plan.virtio.pmems).unwrap_or_else(|error| {
            tracing::warn!(%error, "pmem files are not watched: a guest may hang if one is cut short");
            None
        });
        for (file, guest) in plan.virtio.pmems.iter().zip(&layout.persistent) {
            plan.virtio.all.push(Arc::new(Pmem::new(file.clone(), *guest)));
        }
        let mut viot = None;
        if let Some(confined) = devices.confined() {
            let device = devices.seats() + 1 + u8::try_from(plan.virtio.all.len()).unwrap_or(u8::MAX);
            let iommu = Devfn::new(device, 0).address();
            viot =
                Some(Viot { iommu, endpoints: confined.endpoints.iter().map(|(guest, _)| *guest).collect() });
            let keeper = confined::Keeper::start(&ram, &confined.reached, &plan.spec.pin);
            let keeper = keeper.map_err(Unexpected::during("cannot start a thread"))?;
            let endpoints =
                confined.endpoints.iter().map(|(guest, space)| (guest.number(), *space)).collect();
            plan.virtio.all.push(Arc::new(Iommu::new(endpoints, confined.spaces, Box::new(keeper))));
        }
        let serial = plan.spec.serial != Serial::Off;
        let acpi = platform::acpi_spec(&layout, cpus, &plan.spec.numa, devices.buses(), serial);
        let acpi = AcpiTables::build(&AcpiSpec { viot, ..acpi }).map_err(Problem::of(Class::Usage))?;
        phases.done("prepare devices");

        Ok(Self {
            vcpus,
            devices,
            space,
            interrupts,
            vm,
            ram,
            layout,
            acpi,
            plan,
            watched: watched.map(Arc::new),
            phases,
            watchdog_expired: Arc::default(),
            observer,
        })
    }

    /// Runs the guest until it ends for good, and does what `requests` ask for meanwhile.
    pub fn run(
        mut self,
        console: &mut Console,
        signals: &mut Signals,
        requests: &Requests,
    ) -> Result<Outcome, Problems> {
        // Threads with more rights than ours cannot be moved.
        let kept = self.plan.spec.placement.keep_house();
        kept.map_err(Unexpected::during::<io::Error>("cannot run on the housekeeping CPUs"))?;
        if let Some(reach) = &self.plan.spec.settled {
            sandbox::settle(reach).map_err(Unexpected::during("cannot give up rights that a start takes"))?;
        }
        lost::explain(&self.plan.virtio.pmems, &self.ram);
        loop {
            let end = self.run_once(console, signals, requests)?;
            if self.runs_again(&end, signals.have_asked()) {
                match end {
                    End::Panicked => tracing::warn!("the guest has panicked and is reset"),
                    End::Expired => {
                        tracing::warn!("the guest has not reloaded its watchdog in time and is reset");
                    }
                    End::PowerOff => tracing::warn!("the guest has powered off and is reset"),
                    _ => {}
                }
                self.observer.notify(&Event::Rebooting);
                self.reset()?;
                continue;
            }
            return match end {
                End::Reset => Ok(Outcome::Stopped(RESET_STOPS)),
                End::Panicked => Err(Problem::of(Class::Guest)(Panicked)),
                End::Expired => Err(Problem::of(Class::Guest)(Expired)),
                End::PowerOff => Ok(Outcome::PoweredOff),
                End::DebugExit(value) => Ok(Outcome::DebugExit(value)),
                End::Stopped(how) => Ok(Outcome::Stopped(how)),
                End::Lost(loss) => Err(Problem::of(Class::Host)(loss)),
                End::CutShort(lost) => Err(Problem::of(Class::Host)(lost)),
                End::Failed(failure) => Err(match lost::blame(failure, &self.plan.virtio.pmems, &self.ram) {
                    Ok(lost) => Problem::of(Class::Host)(lost),
                    Err(failure) => Problem::of(Class::Guest)(Failed(failure)),
                }),
            };
        }
    }

    /// Whether the guest runs again after that. If a signal has asked it to power off, its doing so is the end.
    fn runs_again(&self, end: &End, asked: bool) -> bool {
        let spec = &self.plan.spec;
        match end {
            End::Reset => !spec.stop_on_reset,
            End::Panicked => spec.on_panic == Some(OnPanic::Reset),
            End::Expired => spec.watchdog == Some(OnExpiry::Reset),
            End::PowerOff => spec.on_exit == OnExit::Reset && !asked,
            End::DebugExit(_) | End::Stopped(_) | End::Lost(_) | End::CutShort(_) | End::Failed(_) => false,
        }
    }

    /// One run of the guest, from its first instruction until it powers off, resets or fails.
    fn run_once(
        &mut self,
        console: &mut Console,
        signals: &mut Signals,
        requests: &Requests,
    ) -> Result<End, Problems> {
        let during = Unexpected::during::<io::Error>;
        let ending = Arc::new(Ending::new().map_err(during("cannot make an eventfd"))?);
        let output = console.output.try_clone().map_err(during("cannot use the console"))?;
        let virtio = self.virtio_functions()?;
        let pvpanic = self.plan.spec.on_panic.map(|_| Pvpanic::new()).transpose();
        let pvpanic = pvpanic.map_err(Unexpected::during("cannot make the pvpanic device"))?;
        let pvpanic = pvpanic.map(|function| Arc::new(function) as Arc<dyn PciFunction>);
        let watchdog = self.plan.spec.watchdog.map(|_| Watchdog::new(self.watchdog_expired.clone()));
        let watchdog = watchdog.transpose().map_err(Unexpected::during("cannot make the watchdog"))?;
        let watchdog = watchdog.map(Arc::new);
        let build = |mut seats: Vec<Seat<Arc<dyn PciFunction>>>| {
            let seat = |function: &Arc<VirtioPci>| Seat {
                slot: None,
                functions: vec![(0, function.clone() as Arc<dyn PciFunction>)],
            };
            seats.extend(virtio.iter().map(seat));
            let watchdog = watchdog.clone().map(|function| function as Arc<dyn PciFunction>);
            let others = pvpanic.clone().into_iter().chain(watchdog);
            seats.extend(others.map(|function| Seat { slot: None, functions: vec![(0, function)] }));
            Platform::build(Parts {
                layout: &self.layout,
                interrupts: self.interrupts.clone(),
                space: self.space.clone(),
                seats,
                console: Box::new(Output::new(output, console.lossy, ending.clone())),
                serial: self.has_serial(),
                debug_exit: self.plan.spec.debug_exit,
            })
        };
        let platform = self.devices.start(build)?;
        self.load_kernel()?;
        self.phases.done("load kernel");
        self.observer.notify(&Event::Starting(self.phases.list()));

        let vcpus = std::mem::take(&mut self.vcpus);
        let threads = VcpuThreads::start(vcpus, &self.plan.spec.placement, &platform, &ending)
            .map_err(during("cannot start the vCPU threads"))?;
        let mut running = Running {
            ending: ending.clone(),
            platform,
            threads,
            vm: self.vm.clone(),
            interrupts: self.interrupts.clone(),
            ram: self.ram.clone(),
            devices: self.devices.clone(),
            disks: self.plan.virtio.disks.clone(),
            balloon: self.plan.virtio.balloon.clone(),
            pluggable: self.plan.virtio.pluggable.clone(),
            watchdog: watchdog.clone(),
            watched: self.watched.clone(),
            standing: Standing::Running,
            dumping: None,
        };
        let outside = Outside {
            input: &mut console.input,
            signals,
            requests,
            grace: self.plan.spec.grace,
            observer: &self.observer,
        };
        let served = events::serve(&mut running, outside);
        if served.is_err() {
            ending.end(End::Stopped("stopped: the event loop failed"));
        }
        running.abandon_dump();
        self.devices.stop();
        self.vcpus = running.threads.stop();
        virtio.iter().for_each(|function| function.reset_device());
        self.devices.quiet();
        served.map_err(during("the event loop failed"))?;
        let asked = signals.have_asked();
        let end = ending.take(|end| self.runs_again(end, asked));
        Ok(end.unwrap_or(End::Stopped("stopped")))
    }

    /// The virtio devices as functions for one run.
    fn virtio_functions(&self) -> Result<Vec<Arc<VirtioPci>>, Problems> {
        let around = Surroundings {
            ram: self.ram.clone(),
            controller: self.interrupts.clone(),
            doorbells: Arc::new(self.vm.doorbells()),
            behind_port: false,
        };
        let functions =
            self.plan.virtio.all.iter().map(|device| VirtioPci::new(device.clone(), around.clone()));
        functions.collect::<Result<_, _>>().map_err(Problem::of(Class::Host))
    }

    fn has_serial(&self) -> bool {
        self.plan.spec.serial != Serial::Off
    }

    /// Puts the kernel into memory and the boot vCPU in front of it.
    fn load_kernel(&mut self) -> Result<(), Problems> {
        let memory = self.ram.guest_memory();
        let entry = boot::load(memory, &self.layout.ram, &[self.layout.ecam], &self.plan.payload, &self.acpi)
            .map_err(Problem::of(Class::Usage))?;
        let Some(boot_vcpu) = self.vcpus.first_mut() else { return Ok(()) };
        let mut sregs = boot_vcpu.power_on_sregs();
        let regs = boot::boot_state(&entry, &mut sregs);
        boot_vcpu.set_entry(&regs, &sregs).map_err(Unexpected::during("cannot set up the boot vCPU"))
    }

    /// Brings vCPUs, passed-through devices and what boots from memory back to their power-on state.
    fn reset(&mut self) -> Result<(), Problems> {
        boot::clear_for(self.ram.guest_memory(), &self.plan.payload).map_err(Problem::of(Class::Usage))?;
        for vcpu in &mut self.vcpus {
            vcpu.reset().map_err(Unexpected::during("cannot reset a vCPU"))?;
        }
        self.devices.reset();
        // Nothing writes there any more.
        self.devices.unplug_all_memory();
        self.phases = Phases::start();
        Ok(())
    }
}

impl Drop for Machine {
    /// Whoever plugs a device in or out gives up.
    fn drop(&mut self) {
        self.devices.finish();
    }
}
