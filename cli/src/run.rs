//! `vmm run`: from flags to a machine, and its console.
#![expect(clippy::print_stderr, reason = "the operator is told here what happens")]

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use devices::pci::PciAddress;
use vmm::console::RawMode;
use vmm::machine::control;
use vmm::machine::events::Input;
use vmm::machine::phases::Phase;
use vmm::problem::Unexpected;
use vmm::{Class, Console, Event, InitrdSource, Machine, MachineSpec, Observer, Outcome, Plan, Problems};

use crate::args::RunArgs;
use crate::pinning::Teller;
use crate::{default_kernel, initramfs};

/// End of transmission: what a terminal sends for Ctrl-D.
const END_OF_INPUT: u8 = 0x04;

/// Runs the machine; returns the exit code.
pub(crate) fn run(args: RunArgs) -> Result<u8, Problems> {
    let mut problems = Problems::default();
    let values = args.values(&mut problems);
    let kernel = match &args.kernel {
        Some(path) => Some(path.clone()),
        None => problems.keep(Class::Host, default_kernel::find()).map(|kernel| kernel.path),
    };
    let built_in = args.initrd.is_none();
    let addresses = values.vfio.addresses();
    let initrd = match args.initrd {
        Some(path) => Some(InitrdSource::File(path)),
        None => {
            let modules = kernel.as_deref().map(|kernel| modules_for(kernel, &addresses)).unwrap_or_default();
            problems.keep(Class::Internal, initramfs::build(&modules)).map(InitrdSource::Bytes)
        }
    };
    let devices = addresses.iter().map(ToString::to_string).collect();
    let pinning = Teller::new(devices, values.memory, &args.pinning);
    let spec = MachineSpec {
        kernel,
        initrd,
        cmdline: args.cmdline,
        memory: values.memory,
        cpus: values.cpus,
        vfio: values.vfio,
        pin: args.pinning.options(&mut problems),
        prefault: args.pinning.prefault.is_some(),
        debug_exit: args.debug_exit,
        grace: values.grace,
    };
    let plan = Plan::check(spec, problems)?;

    let machine = Machine::build(plan, Arc::new(Narrator { pinning }))?;
    let during = Unexpected::during::<io::Error>;
    let (_control, requests) = control::channel().map_err(during("cannot make an eventfd"))?;
    let stdin = io::stdin();
    let input = stdin.as_fd().try_clone_to_owned().map_err(during("cannot use standard input"))?;
    let input = Input::new(File::from(input), stdin.is_terminal(), built_in.then_some(END_OF_INPUT));
    let output = io::stdout().as_fd().try_clone_to_owned().map_err(during("cannot use standard output"))?;
    let console = Console { input, output: File::from(output) };
    let raw = RawMode::enter(stdin.as_fd()).map_err(during("cannot put the terminal into raw mode"))?;
    let outcome = machine.run(console, &requests);
    drop(raw);
    Ok(match outcome? {
        Outcome::PoweredOff => 0,
        Outcome::DebugExit(value) => (value << 1 | 1) as u8,
        Outcome::Stopped(how) => {
            eprintln!("vmm: {how}");
            0
        }
    })
}

/// The kernel's modules for the passed-through devices, if it is a packaged one that keeps drivers in modules.
fn modules_for(kernel: &Path, devices: &[PciAddress]) -> initramfs::modules::ModuleSet {
    let aliases = initramfs::modules::modaliases(Path::new("/sys"), devices);
    match default_kernel::release_of(kernel) {
        Some(release) => initramfs::modules::resolve(&Path::new("/lib/modules").join(release), &aliases),
        None => Default::default(),
    }
}

/// Tells the operator what happens.
struct Narrator {
    pinning: Teller,
}

impl Observer for Narrator {
    fn notify(&self, event: &Event) {
        match event {
            Event::Pinning(progress) => self.pinning.progress(progress),
            Event::Pinned(report) => self.pinning.pinned(report),
            Event::PinFailed(error) => self.pinning.failed(error),
            Event::Starting(phases) => phases.iter().for_each(log_phase),
            Event::Rebooting => eprint!("vmm: the guest reboots\r\n"),
            Event::AskedToPowerOff { signal, grace } => {
                eprint!("vmm: {signal}: the guest has {grace:?} to power off; a second signal stops it\r\n");
            }
            Event::ConsoleHelp => {
                eprint!(
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
