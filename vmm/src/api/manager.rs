//! The life of the one machine of a process, as the API sees it: created, booted, shut down, deleted, created again.
//!
//! Machines are built and run on the process's main thread, in [`Manager::serve`]. Requests come on threads of their own:
//! they leave there what is to be done and wait until it is. The end of a guest that nobody asked for is the end of the
//! process, with its exit code; a guest that was shut down by request can be booted again.

use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use devices::pci::PciAddress;
use rustix::event::{PollFd, PollFlags, poll};

use super::config::{Configuration, device_of};
use super::error::ApiError;
use super::record::{Recorder, StartRecord};
use super::virtio::Described;
use crate::console::OpenConsole;
use crate::machine::control::{self, Control, ControlError, Counters, DeviceName, Info};
use crate::machine::signals::Signals;
use crate::machine::{Event, Machine, Observer, Outcome};
use crate::preflight::Plan;
use crate::problem::{Class, Problem, Problems, Unexpected};
use crate::spec::{MachineSpec, OnExit};
use crate::virtio::plugged::PluggedSpec;
use crate::wake::Wake;

/// Makes the observer of a machine that is about to be built.
pub type Observe<'a> = dyn Fn(&MachineSpec) -> Arc<dyn Observer> + 'a;

/// The process's machine.
pub struct Manager {
    state: Mutex<State>,
    /// The state has changed.
    changed: Condvar,
    /// The main thread has something to do.
    wake: Wake,
    /// What a machine is that is created without saying.
    defaults: MachineSpec,
    record: Arc<StartRecord>,
}

#[derive(Default)]
struct State {
    configuration: Option<Configuration>,
    life: Life,
    /// Why the last boot has failed.
    failure: Option<ApiError>,
    /// The end of this machine was asked for, or is not to be that of the process.
    stopping: bool,
    /// The end of the process was asked for.
    exiting: bool,
    /// Who waits to hear whether the machine could be started.
    preflights: Vec<Sender<Result<(), Problems>>>,
    /// Where the serial port's pseudo-terminal is.
    pty: Option<PathBuf>,
}

/// Where the machine is in its life.
#[derive(Default)]
enum Life {
    /// It does not run.
    #[default]
    Off,
    /// It is to be booted.
    Wanted,
    /// It is being built.
    Starting,
    /// Its guest runs, or is paused.
    On(Control),
}

/// What the main thread is to do next.
enum Next {
    /// Look whether it could be started, and tell who asked.
    Check(Box<MachineSpec>, Sender<Result<(), Problems>>),
    Boot(Box<MachineSpec>),
    Exit(&'static str),
}

/// What became of a machine.
struct Ended {
    result: Result<Outcome, Problems>,
    /// It did not get as far as its guest, which whoever asked for it is told.
    told: bool,
    /// Its end was asked for, or is not to be that of the process.
    stopping: bool,
}

/// The machine as `vm.info` tells of it.
pub struct Overview {
    /// What was asked for.
    pub configuration: Configuration,
    /// What it is, if it runs.
    pub info: Option<Info>,
    /// Whether it is being started.
    pub starting: bool,
    /// Where its serial port's pseudo-terminal is.
    pub pty: Option<PathBuf>,
}

impl Manager {
    /// For a process with this machine, or none yet. Fails when no eventfd is to be had.
    pub fn new(configuration: Option<Configuration>, defaults: MachineSpec) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            state: Mutex::new(State { configuration, ..State::default() }),
            changed: Condvar::new(),
            wake: Wake::new()?,
            defaults,
            record: Arc::default(),
        }))
    }

    /// What is known of the last start.
    pub fn record(&self) -> &StartRecord {
        &self.record
    }

    /// Runs the machine that was planned, if any, then what requests ask for, until the process is to end.
    pub fn serve(
        self: &Arc<Self>,
        planned: Option<Plan>,
        signals: &mut Signals,
        observe: &Observe,
    ) -> Result<Outcome, Problems> {
        let outcome = self.serve_until_the_end(planned, signals, observe);
        // Nobody answers any more.
        let mut state = self.lock();
        state.exiting = true;
        state.preflights.clear();
        outcome
    }

    fn serve_until_the_end(
        self: &Arc<Self>,
        planned: Option<Plan>,
        signals: &mut Signals,
        observe: &Observe,
    ) -> Result<Outcome, Problems> {
        if let Some(plan) = planned {
            self.lock().life = Life::Starting;
            // The plan's own has its devices no more, which reports name.
            let asked_for =
                self.lock().configuration.as_ref().map(|configuration| configuration.spec.clone());
            let spec = asked_for.unwrap_or_else(|| plan.spec.clone());
            match self.run(&spec, Some(plan), signals, observe) {
                Ended { result: Ok(_), stopping: true, .. } => {}
                ended => return ended.result,
            }
        }
        loop {
            let spec = match self.next(signals)? {
                Next::Exit(how) => return Ok(Outcome::Stopped(how)),
                Next::Check(spec, asked) => {
                    // Who asked may be gone.
                    let _ = asked.send(Plan::check(*spec, Problems::default()).map(drop));
                    continue;
                }
                Next::Boot(spec) => spec,
            };
            match self.run(&spec, None, signals, observe) {
                Ended { result: Err(Problems(problems)), told: true, .. } => {
                    problems
                        .iter()
                        .for_each(|problem| tracing::warn!(problem = %problem.what, "boot failed"));
                }
                Ended { result: Ok(_), stopping: true, .. } => {}
                ended => return ended.result,
            }
        }
    }

    /// Waits for the next thing to do.
    fn next(&self, signals: &mut Signals) -> Result<Next, Problems> {
        loop {
            let mut state = self.lock();
            if state.exiting {
                return Ok(Next::Exit("stopped by request"));
            }
            if let Some(asked) = state.preflights.pop()
                && let Some(configuration) = &state.configuration
            {
                return Ok(Next::Check(Box::new(configuration.spec.clone()), asked));
            }
            if let (Life::Wanted, Some(configuration)) = (&state.life, &state.configuration) {
                let spec = Box::new(configuration.spec.clone());
                state.life = Life::Starting;
                return Ok(Next::Boot(spec));
            }
            drop(state);
            if let Some(signal) = signals.arrived() {
                return Ok(Next::Exit(signal.stopped));
            }
            let mut polled = vec![PollFd::new(&self.wake, PollFlags::IN)];
            polled.extend(signals.sockets().map(|socket| PollFd::new(socket, PollFlags::IN)));
            match poll(&mut polled, None) {
                Err(rustix::io::Errno::INTR) | Ok(_) => {}
                Err(error) => {
                    return Err(Unexpected::during("cannot wait for requests")(io::Error::from(error)));
                }
            }
            self.wake.clear();
        }
    }

    /// Builds a machine and runs it to its end. If that fails before the guest runs, the failure is left for whoever
    /// asked.
    fn run(
        self: &Arc<Self>,
        spec: &MachineSpec,
        plan: Option<Plan>,
        signals: &mut Signals,
        observe: &Observe,
    ) -> Ended {
        let result = self.build_and_run(spec, plan, signals, observe);
        let mut state = self.lock();
        let mut told = false;
        if let (Err(problems), Life::Starting) = (&result, &state.life) {
            state.failure = Some(problems.into());
            told = true;
        }
        state.life = Life::Off;
        state.pty = None;
        // From here on the next boot may be asked for: what became of this one is not to be read from the state.
        let stopping = std::mem::take(&mut state.stopping);
        drop(state);
        self.changed.notify_all();
        Ended { result, told, stopping }
    }

    fn build_and_run(
        self: &Arc<Self>,
        spec: &MachineSpec,
        plan: Option<Plan>,
        signals: &mut Signals,
        observe: &Observe,
    ) -> Result<Outcome, Problems> {
        let (control, requests) = control::channel().map_err(Unexpected::during("cannot make an eventfd"))?;
        self.record.begin();
        let manager = self.clone();
        let recorder = Arc::new(Recorder {
            record: self.record.clone(),
            spec: spec.clone(),
            next: observe(spec),
            starting: Box::new(move || manager.started(&control)),
        });
        signals.set_fatal(true);
        let machine = plan
            .map_or_else(|| Plan::check(spec.clone(), Problems::default()), Ok)
            .and_then(|plan| Machine::build(plan, recorder.clone()));
        signals.set_fatal(false);
        let machine = machine?;
        let mut open =
            OpenConsole::open(&spec.serial, spec.end_of_input).map_err(Problem::of(Class::Host))?;
        self.lock().pty = open.pty.clone();
        let outcome = machine.run(&mut open.console, signals, &requests)?;
        // The terminal is given back before anything is said.
        drop(open);
        if keeps(spec.on_exit, outcome, signals.have_asked()) {
            self.lock().stopping = true;
            recorder.notify(&Event::Kept);
        }
        Ok(outcome)
    }

    /// The guest runs, or runs again.
    fn started(&self, control: &Control) {
        let mut state = self.lock();
        if matches!(state.life, Life::Starting) {
            state.failure = None;
            state.life = Life::On(control.clone());
        }
        drop(state);
        self.changed.notify_all();
    }

    /// `vm.create`: keeps what is asked for.
    pub fn create(&self, body: &[u8]) -> Result<(), ApiError> {
        let configuration = Configuration::parse(body, &self.defaults)?;
        let mut state = self.lock();
        if state.configuration.is_some() {
            return Err(ApiError::new(500, "a machine has been created already"));
        }
        state.configuration = Some(configuration);
        Ok(())
    }

    /// `vm.boot`: returns when the guest runs.
    pub fn boot(&self) -> Result<(), ApiError> {
        let mut state = self.lock();
        if state.configuration.is_none() {
            return Err(ApiError::not_created());
        }
        if !matches!(state.life, Life::Off) || state.exiting {
            return Err(ApiError::new(500, "the machine has been booted already"));
        }
        state.life = Life::Wanted;
        state.failure = None;
        self.wake.signal();
        let state = self.settled(state);
        match (&state.life, &state.failure) {
            (_, Some(failure)) => Err(failure.clone()),
            (Life::On(_), None) => Ok(()),
            _ => Err(ApiError::new(500, "the machine has ended again")),
        }
    }

    /// What is in the way of a start; nothing is allocated. Answered by the main thread, which alone may open what it takes.
    pub fn preflight(&self) -> Result<Result<(), Problems>, ApiError> {
        let (asked, answer) = channel();
        let mut state = self.lock();
        if state.configuration.is_none() {
            return Err(ApiError::not_created());
        }
        if !matches!(state.life, Life::Off) || state.exiting {
            return Err(ApiError::new(500, "the machine has been booted already"));
        }
        state.preflights.push(asked);
        drop(state);
        self.wake.signal();
        answer.recv().map_err(|_| ApiError::new(500, "the machine is gone, or the process ends"))
    }

    /// `vm.shutdown`: returns when the machine is gone.
    pub fn shutdown(&self) -> Result<(), ApiError> {
        let mut state = self.settled(self.lock());
        if state.configuration.is_none() {
            return Err(ApiError::not_created());
        }
        let Life::On(control) = &state.life else { return Err(ApiError::not_running()) };
        let control = control.clone();
        state.stopping = true;
        drop(state);
        // One that ends by itself meanwhile is gone as well.
        let _ = control.shutdown();
        let state = self.lock();
        let gone = self.changed.wait_while(state, |state| matches!(state.life, Life::On(_)));
        drop(gone.unwrap_or_else(PoisonError::into_inner));
        Ok(())
    }

    /// `vm.delete`: shuts the machine down if it runs, and forgets it.
    pub fn delete(&self) -> Result<(), ApiError> {
        if matches!(self.settled(self.lock()).life, Life::On(_)) {
            self.shutdown()?;
        }
        let mut state = self.settled(self.lock());
        match state.life {
            Life::Off => state.configuration = None,
            _ => return Err(ApiError::new(500, "the machine was booted again meanwhile")),
        }
        Ok(())
    }

    /// `vmm.shutdown`: ends the machine, and the process when this has been answered.
    pub fn exit(&self) -> Result<(), ApiError> {
        self.lock().exiting = true;
        let result = self.delete();
        self.wake.signal();
        result
    }

    /// The machine as it is.
    pub fn overview(&self) -> Result<Overview, ApiError> {
        let state = self.lock();
        let configuration = state.configuration.clone().ok_or_else(ApiError::not_created)?;
        let starting = matches!(state.life, Life::Wanted | Life::Starting);
        let control = if let Life::On(control) = &state.life { Some(control.clone()) } else { None };
        let pty = state.pty.clone();
        drop(state);
        // A machine that ends just now does not run any more.
        let info = control.and_then(|control| control.info().ok());
        Ok(Overview { configuration, info, starting, pty })
    }

    /// What the machine has counted.
    pub fn counters(&self) -> Result<Counters, ApiError> {
        Ok(self.control()?.counters()?)
    }

    /// The running machine.
    pub fn control(&self) -> Result<Control, ApiError> {
        let state = self.lock();
        match (&state.configuration, &state.life) {
            (None, _) => Err(ApiError::not_created()),
            (_, Life::On(control)) => Ok(control.clone()),
            _ => Err(ApiError::not_running()),
        }
    }

    /// `vm.add-device`: plugs a device of the host into the machine that runs, or into what is to be booted. Gives its
    /// name, and where the guest sees it.
    pub fn add_device(&self, body: &[u8]) -> Result<(String, Option<PciAddress>), ApiError> {
        let (address, id) = device_of(body)?;
        let note = |configuration: &mut Configuration| {
            configuration.can_pass_through(address)?;
            let taken = |why| ApiError::new(409, format!("the device's name or address {why}"));
            let id = configuration.add(id, address).map_err(taken)?;
            configuration.put_behind_a_port(address);
            Ok((id, DeviceName::Host(address)))
        };
        self.add(note, |control, _| Ok(control.add_device(address)?.guest))
    }

    /// `vm.add-disk` and the like: the same with a virtio device.
    pub(super) fn add_virtio(
        &self,
        (id, device): Described,
    ) -> Result<(String, Option<PciAddress>), ApiError> {
        let note = |configuration: &mut Configuration| {
            let id = configuration.plug(id, device.clone())?;
            Ok((id.clone(), DeviceName::Virtio(id)))
        };
        self.add(note, |control, id| {
            control.add_virtio(PluggedSpec { id: id.to_owned(), device: device.clone() })
        })
    }

    /// Notes a device, so that its name is taken, and plugs it in if the machine runs. Not noted any more if that fails.
    fn add(
        &self,
        note: impl FnOnce(&mut Configuration) -> Result<(String, DeviceName), ApiError>,
        plug: impl FnOnce(&Control, &str) -> Result<PciAddress, ControlError>,
    ) -> Result<(String, Option<PciAddress>), ApiError> {
        // One that is being started has been told already what it has.
        let mut state = self.settled(self.lock());
        let configuration = state.configuration.as_mut().ok_or_else(ApiError::not_created)?;
        let (id, name) = note(configuration)?;
        let control = if let Life::On(control) = &state.life { Some(control.clone()) } else { None };
        drop(state);
        let Some(control) = control else { return Ok((id, None)) };
        match plug(&control, &id) {
            Ok(guest) => Ok((id, Some(guest))),
            Err(error) => {
                if let Some(configuration) = &mut self.lock().configuration {
                    configuration.remove(&name);
                }
                Err(error.into())
            }
        }
    }

    /// `vm.remove-device`: returns when the host has all of the device again.
    pub fn remove_device(&self, id: &str) -> Result<(), ApiError> {
        let state = self.settled(self.lock());
        let configuration = state.configuration.as_ref().ok_or_else(ApiError::not_created)?;
        let name = configuration.device(id).ok_or_else(|| configuration.no_device(id))?;
        let control = if let Life::On(control) = &state.life { Some(control.clone()) } else { None };
        drop(state);
        if let Some(control) = control {
            control.remove_device(name.clone())?;
        }
        if let Some(configuration) = &mut self.lock().configuration {
            configuration.remove(&name);
        }
        Ok(())
    }

    /// The memory's part of `vm.resize`: tells the guest what it is to have in all, and keeps that for later boots.
    pub fn resize_memory(&self, ram: u64) -> Result<(), ApiError> {
        let mut state = self.settled(self.lock());
        let plugged = state.configuration.as_mut().ok_or_else(ApiError::not_created)?.resize_memory(ram)?;
        match (&state.life, plugged) {
            (Life::On(control), Some(size)) => {
                let control = control.clone();
                drop(state);
                Ok(control.resize_memory(size)?)
            }
            _ => Ok(()),
        }
    }

    /// The balloon's part of `vm.resize`: asks the guest for so many bytes of its memory, and keeps that for later boots.
    pub fn resize_balloon(&self, size: u64) -> Result<(), ApiError> {
        let mut state = self.settled(self.lock());
        let has_one = state.configuration.as_mut().ok_or_else(ApiError::not_created)?.resize_balloon(size)?;
        match &state.life {
            Life::On(control) if has_one => {
                let control = control.clone();
                drop(state);
                Ok(control.resize_balloon(size)?)
            }
            _ => Ok(()),
        }
    }

    /// Waits until the machine is either on or off.
    fn settled<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let starting = |state: &mut State| matches!(state.life, Life::Wanted | Life::Starting);
        self.changed.wait_while(state, starting).unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the process outlives a machine that ended so. Not if a signal asked for its end: the sender waits for the process.
fn keeps(on_exit: OnExit, outcome: Outcome, asked: bool) -> bool {
    on_exit == OnExit::Keep && outcome == Outcome::PoweredOff && !asked
}

#[cfg(test)]
#[path = "manager_test.rs"]
mod tests;
