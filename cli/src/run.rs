//! `vmm run`: from flags to a machine. `vmm --api-socket`: no machine yet.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use devices::pci::PciAddress;
use serde::de::DeserializeOwned;
use vmm::api::{self, ApiListener, Configuration, Manager};
use vmm::machine::control::PluggedPlace;
use vmm::machine::phases::Phase;
use vmm::machine::signals::Signals;
use vmm::problem::Unexpected;
use vmm::{Class, Event, InitrdSource, MachineSpec, Observer, Outcome, Plan, Problems, Serial};

use crate::args::RunArgs;
use crate::config::effective::{self, Found};
use crate::config::sandbox::{self, Sandbox};
use crate::config::{Config, HotplugMemory, Initrd, Numa, OnExit, OnPanic, OnReboot, Watchdog};
use crate::events::{EventLog, Events};
use crate::grammar::{self, Reading, flag};
use crate::pinning::Teller;
use crate::stderr::say;
use crate::{default_kernel, initramfs, report};
use ::sandbox::Use;

/// End of transmission: what a terminal sends for Ctrl-D.
const END_OF_INPUT: u8 = 0x04;
/// The modalias of a power button.
const POWER_BUTTON: &str = "acpi:PNP0C0C:";

/// Runs the machine; returns the exit code.
pub(crate) fn run(args: RunArgs, api_socket: Option<String>) -> Result<u8, Problems> {
    let mut problems = Problems::default();
    let reading = args.machine.read(&mut problems);
    let config = &reading.value;
    let kernel = match &config.kernel {
        Some(path) => Some(path.clone()),
        None => problems.keep(Class::Host, default_kernel::find()).map(|kernel| kernel.path),
    };
    if args.dry_run {
        return dry_run(&reading, kernel, problems);
    }
    config.sandbox.clone().unwrap_or_default().arm(config.reach(kernel.as_deref()))?;
    let events = config.events.as_ref();
    let events = events.and_then(|events| problems.keep(Class::Usage, EventLog::open(events))).map(Arc::new);
    let socket = config.api_socket.clone().or(api_socket);
    let outcome = start(config, kernel, socket, events.clone(), problems);
    let code = exit_code(&outcome);
    if let Some(events) = events {
        events.ended(&outcome, code);
    }
    outcome.map(|_| code)
}

/// Starts the machine and runs it to its end.
fn start(
    config: &Config,
    kernel: Option<PathBuf>,
    api_socket: Option<String>,
    events: Option<Arc<EventLog>>,
    mut problems: Problems,
) -> Result<Outcome, Problems> {
    let vfio = config.vfio_request(&mut problems);
    let addresses = vfio.addresses();
    let initrd = match config.initrd() {
        Initrd::File(path) => Some(InitrdSource::File(path.to_owned())),
        Initrd::None => None,
        Initrd::BuiltIn => {
            let modules = kernel.as_deref().map(|kernel| modules_for(kernel, &addresses)).unwrap_or_default();
            problems.keep(Class::Internal, initramfs::build(&modules)).map(InitrdSource::Made)
        }
    };
    let spec = MachineSpec {
        kernel,
        initrd,
        vfio,
        serial: Serial::Tty,
        end_of_input: (config.initrd() == Initrd::BuiltIn).then_some(END_OF_INPUT),
        settled: config.settled(api_socket.is_some()),
        ..spec(config, &mut problems)
    };
    if config.on_exit == OnExit::Keep && api_socket.is_none() {
        problems.add(Class::Usage, KeptForNobody);
    }
    let listener = listen(api_socket, &mut problems);
    let plan = Plan::check(spec.clone(), problems)?;
    let during = Unexpected::during::<io::Error>;
    let manager = Manager::new(Some(Configuration::new(spec)), blank(&mut Problems::default()))
        .map_err(during("cannot make an eventfd"))?;
    serve(&manager, listener.as_ref(), Some(plan), config, events)
}

/// Prints what the machine would be; returns the exit code.
fn dry_run(reading: &Reading<Config>, kernel: Option<PathBuf>, problems: Problems) -> Result<u8, Problems> {
    if !problems.0.is_empty() {
        return Err(problems);
    }
    let kernel = kernel.map(|path| path.display().to_string());
    let found = [
        Found { key: "kernel", value: kernel, why: "found on the host" },
        Found { key: "initrd", value: None, why: "the built-in guest" },
    ];
    let text = effective::text(&reading.value, &reading.origins, &found)
        .map_err(Unexpected::during("cannot write the machine down"))?;
    report::print(&text);
    Ok(0)
}

/// Waits for a machine to be created, and runs it; returns the exit code.
pub(crate) fn wait(
    api_socket: Option<String>,
    sandbox: Option<&str>,
    events: Option<&str>,
) -> Result<u8, Problems> {
    let mut problems = Problems::default();
    let sandbox: Option<Sandbox> = sandbox.and_then(|text| options("--sandbox", text, &mut problems));
    let events: Option<Events> = events.and_then(|text| options("--events", text, &mut problems));
    let mut reach = sandbox::host();
    if let Some(socket) = &api_socket {
        reach = reach.and_where(Path::new(socket), Use::Bind);
    }
    if let Some(file) = events.as_ref().and_then(|events| events.path.as_ref()) {
        reach = reach.and(file, Use::Append);
    }
    sandbox.unwrap_or_default().arm(reach)?;
    let events = events.and_then(|events| problems.keep(Class::Usage, EventLog::open(&events))).map(Arc::new);
    let listener = listen(api_socket, &mut problems);
    let defaults = blank(&mut problems);
    if !problems.0.is_empty() {
        return Err(problems);
    }
    let manager = Manager::new(None, defaults).map_err(Unexpected::during("cannot make an eventfd"))?;
    let outcome = serve(&manager, listener.as_ref(), None, &Config::default(), events.clone());
    let code = exit_code(&outcome);
    if let Some(events) = events {
        events.ended(&outcome, code);
    }
    outcome.map(|_| code)
}

/// What a flag asks for that has no machine beside it.
fn options<T: DeserializeOwned + Default>(flag: &str, text: &str, problems: &mut Problems) -> Option<T> {
    let value = problems.keep(Class::Usage, flag::options(flag, text))?;
    let Reading { value, problems: wrong, .. } = grammar::read::<T>(&[value]);
    if wrong.is_empty() {
        return Some(value);
    }
    wrong.into_iter().for_each(|error| problems.add(Class::Usage, error));
    None
}

fn serve(
    manager: &Arc<Manager>,
    listener: Option<&ApiListener>,
    plan: Option<Plan>,
    config: &Config,
    events: Option<Arc<EventLog>>,
) -> Result<Outcome, Problems> {
    let mut signals = Signals::catch().map_err(Unexpected::during("cannot catch signals"))?;
    let server = listener.map(|listener| api::start(listener, manager)).transpose()?;
    if plan.is_none() {
        say!("vmm: waiting for a machine to be created\n");
    }
    let observe = |spec: &MachineSpec| -> Arc<dyn Observer> {
        let devices = spec.vfio.unconfined().iter().map(ToString::to_string).collect();
        let pinning = Teller::new(devices, spec.memory, config);
        Arc::new(Narrator { pinning, spec: spec.clone(), events: events.clone() })
    };
    let outcome = manager.serve(plan, &mut signals, &observe);
    // What has been answered is sent before the process ends.
    drop(server);
    if let Ok(outcome) = outcome {
        say!("vmm: {}\n", closing_line(outcome));
    }
    outcome
}

/// Why it ended, if nothing failed; what has failed is told as problems.
fn closing_line(outcome: Outcome) -> String {
    match outcome {
        Outcome::PoweredOff => "the guest powered off".to_owned(),
        Outcome::DebugExit(value) => format!("the guest wrote {value:#x} to the debug-exit port"),
        Outcome::Stopped(how) => how.to_owned(),
    }
}

/// Nobody could ask for anything.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("--on-exit keep: without --api-socket nobody could ask for the machine any more")]
#[diagnostic(help("give --api-socket PATH as well, or leave --on-exit out"))]
struct KeptForNobody;

/// What the process ends with.
fn exit_code(outcome: &Result<Outcome, Problems>) -> u8 {
    match outcome {
        Ok(Outcome::PoweredOff | Outcome::Stopped(_)) => 0,
        Ok(Outcome::DebugExit(value)) => (value << 1 | 1) as u8,
        Err(problems) => problems.exit_code(),
    }
}

/// Opens the API's socket, if there is to be one.
fn listen(socket: Option<String>, problems: &mut Problems) -> Option<ApiListener> {
    let socket = problems.keep(Class::Usage, socket?.parse())?;
    problems.keep(Class::Usage, ApiListener::open(&socket))
}

/// Root ports of a machine that is created over the API, which has no word for them and expects that devices can be added.
const API_PORTS: u8 = 4;

/// What a machine is that is created over the API without saying.
pub(crate) fn blank(problems: &mut Problems) -> MachineSpec {
    let config = Config { cmdline: String::new(), pcie_ports: API_PORTS, ..Config::default() };
    spec(&config, problems)
}

/// What `config` says without a look at the host: no kernel, no devices, no console.
pub(crate) fn spec(config: &Config, problems: &mut Problems) -> MachineSpec {
    MachineSpec {
        kernel: None,
        initrd: None,
        cmdline: config.cmdline.clone(),
        memory: config.memory.0,
        backing: config.backing(),
        pluggable: config.hotplug_memory.as_ref().map(HotplugMemory::spec),
        cpus: config.cpus,
        numa: config.numa.iter().map(Numa::node).collect(),
        placement: config.placement(),
        vfio: vfio::Request::default(),
        pcie_ports: config.pcie_ports,
        virtio: config.virtio_spec(problems),
        plugged: Vec::new(),
        on_panic: config.on_panic.map(OnPanic::means),
        watchdog: config.watchdog.map(Watchdog::means),
        stop_on_reset: config.on_reboot == OnReboot::Stop,
        on_exit: config.on_exit.means(),
        pin: config.pin_options(problems),
        prefault: config.prefault.is_some(),
        debug_exit: config.debug_exit,
        serial: Serial::Null,
        end_of_input: None,
        settled: None,
        grace: config.grace.0,
    }
}

/// The kernel's modules for the power button and the passed-through devices, if it is a packaged one that keeps drivers in modules.
fn modules_for(kernel: &Path, devices: &[PciAddress]) -> initramfs::modules::ModuleSet {
    let aliases = initramfs::modules::modaliases(Path::new("/sys"), devices);
    let Some(release) = default_kernel::release_of(kernel) else { return Default::default() };
    let directory = Path::new("/lib/modules").join(release);
    let mut set = initramfs::modules::resolve(&directory, &aliases);
    // The guest does without, so that it is missing is not worth a note.
    let button = initramfs::modules::resolve(&directory, &[POWER_BUTTON.to_owned()]);
    button.files.into_iter().for_each(|file| {
        if !set.files.contains(&file) {
            set.files.push(file);
        }
    });
    set
}

/// Tells the operator what happens.
struct Narrator {
    pinning: Teller,
    spec: MachineSpec,
    /// What programs are told.
    events: Option<Arc<EventLog>>,
}

impl Observer for Narrator {
    fn notify(&self, event: &Event) {
        if let Some(events) = &self.events {
            events.note(&self.spec, event);
        }
        match event {
            Event::Pinning(progress) => self.pinning.progress(progress),
            Event::Pinned(report) => self.pinning.pinned(report),
            Event::PinFailed(error) => self.pinning.failed(error),
            // Whoever plugs it in is told how far it is (`vmm ctl`); the terminal is the guest's.
            Event::Plugging(_) => {}
            Event::Starting(phases) => phases.iter().for_each(log_phase),
            Event::Plugged { places, pinned } => {
                let named: Vec<String> = places.iter().map(|place| place.host.to_string()).collect();
                if let Some(report) = pinned {
                    self.pinning.pinned_later(&named, report);
                }
                for place in *places {
                    say!("vmm: {} is plugged in, the guest sees it at {}\r\n", place.host, place.guest);
                }
            }
            Event::Unplugged { hosts } => {
                hosts.iter().for_each(|host| say!("vmm: {host} is unplugged and the host's again\r\n"));
            }
            Event::VirtioPlugged(PluggedPlace { id, guest }) => {
                say!("vmm: {id} is plugged in, the guest sees it at {guest}\r\n");
            }
            Event::VirtioUnplugged { id } => say!("vmm: {id} is unplugged\r\n"),
            Event::Kept => {
                say!("vmm: the guest powered off, and --on-exit is keep: waiting for requests\n");
            }
            Event::Rebooting => say!("vmm: the guest reboots\r\n"),
            Event::AskedToPowerOff { signal, grace } => {
                say!("vmm: {signal}: the guest has {grace:?} to power off; a second signal stops it\r\n");
            }
            Event::ConsoleHelp => {
                say!(
                    "\r\nCtrl-A x  end the machine\r\nCtrl-A a  send Ctrl-A to the guest\r\nCtrl-A h  this help\r\n"
                );
            }
        }
    }
}

fn log_phase(phase: &Phase) {
    let ms = phase.took.as_secs_f64() * 1e3;
    match phase.bytes {
        Some(bytes) => {
            let rate = bytes as f64 / phase.took.as_secs_f64() / f64::from(1 << 30);
            tracing::info!("{:<20} {ms:9.2} ms {rate:7.2} GiB/s", phase.name);
        }
        None => tracing::info!("{:<20} {ms:9.2} ms", phase.name),
    }
}

#[cfg(test)]
#[path = "run_test.rs"]
mod tests;
