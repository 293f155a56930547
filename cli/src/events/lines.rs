//! What each event is as JSON.

use std::error::Error;

use memory::pin::{PinError, PinReport, Progress, Record, Step};
use serde_json::{Value, json};
use vmm::machine::control::PluggedPlace;
use vmm::problem::Problem;
use vmm::{Class, Event, MachineSpec, Outcome, Problems};

/// The lines that an event is.
pub(super) fn of(spec: &MachineSpec, event: &Event) -> Vec<Value> {
    match event {
        Event::Pinning(progress) | Event::Plugging(Some(progress)) => vec![pinning(progress)],
        Event::Pinned(report) => vec![pinned("pinned", spec, None, Ok(report))],
        Event::PinFailed(error) => vec![pinned("pin-failed", spec, None, Err(error))],
        Event::Starting(phases) => {
            let phase = |phase: &vmm::machine::phases::Phase| {
                let ms = phase.took.as_secs_f64() * 1e3;
                json!({ "event": "phase", "name": phase.name, "ms": ms, "bytes": phase.bytes })
            };
            let running = json!({ "event": "running", "cpus": spec.cpus, "memory_bytes": spec.memory, "devices": devices(spec) });
            phases.iter().map(phase).chain([running]).collect()
        }
        Event::Kept => vec![json!({ "event": "kept" })],
        Event::Rebooting => vec![json!({ "event": "rebooting" })],
        Event::Plugged { places, pinned: report } => {
            let hosts: Vec<String> = places.iter().map(|place| place.host.to_string()).collect();
            let report = report.map(|report| pinned("pinned", spec, Some(&hosts), Ok(report)));
            let plugged = places.iter().map(|place| {
                json!({ "event": "plugged", "device": place.host.to_string(), "guest": place.guest.to_string() })
            });
            report.into_iter().chain(plugged).collect()
        }
        Event::Unplugged { hosts } => {
            hosts.iter().map(|host| json!({ "event": "unplugged", "device": host.to_string() })).collect()
        }
        Event::VirtioPlugged(PluggedPlace { id, guest }) => {
            vec![json!({ "event": "plugged", "device": id, "guest": guest.to_string() })]
        }
        Event::VirtioUnplugged { id } => vec![json!({ "event": "unplugged", "device": id })],
        Event::AskedToPowerOff { signal, grace } => {
            vec![
                json!({ "event": "asked-to-power-off", "signal": signal, "grace_ms": grace.as_millis() as u64 }),
            ]
        }
        Event::Plugging(None) | Event::ConsoleHelp => Vec::new(),
    }
}

/// The last line.
pub(super) fn ended(result: &Result<Outcome, Problems>, code: u8) -> Value {
    match result {
        Ok(Outcome::PoweredOff) => json!({ "event": "ended", "code": code, "cause": "powered-off" }),
        Ok(Outcome::DebugExit(value)) => {
            json!({ "event": "ended", "code": code, "cause": "debug-exit", "value": value })
        }
        Ok(Outcome::Stopped(how)) => {
            json!({ "event": "ended", "code": code, "cause": "stopped", "how": how })
        }
        Err(Problems(problems)) => {
            let problems: Vec<Value> = problems.iter().map(problem).collect();
            json!({ "event": "ended", "code": code, "cause": "failed", "problems": problems })
        }
    }
}

fn problem(problem: &Problem) -> Value {
    let class = match problem.class {
        Class::Guest => "guest",
        Class::Usage => "usage",
        Class::Host => "host",
        Class::Memory => "memory",
        Class::Internal => "internal",
    };
    let mut causes: Vec<String> = Vec::new();
    let mut source: Option<&dyn Error> = problem.what.source();
    while let Some(cause) = source {
        causes.push(cause.to_string());
        source = cause.source();
    }
    let help = problem.what.help().map(|help| help.to_string());
    json!({ "class": class, "message": problem.what.to_string(), "causes": causes, "help": help })
}

fn pinning(progress: &Progress) -> Value {
    let step = match progress.step {
        Step::WaitingForTurn => "waiting",
        Step::Populating => "populating",
        Step::Pinning => "pinning",
    };
    let Progress { done, total, retries, .. } = progress;
    json!({ "event": "pinning", "step": step, "done_bytes": done, "total_bytes": total, "retries": retries })
}

/// What `--report` writes, without the host.
fn pinned(
    name: &str,
    spec: &MachineSpec,
    hosts: Option<&[String]>,
    result: Result<&PinReport, &PinError>,
) -> Value {
    let all = devices(spec);
    let record = Record::new(result, hosts.unwrap_or(&all), spec.memory, None);
    let mut line = serde_json::to_value(record).unwrap_or_default();
    if let Some(fields) = line.as_object_mut() {
        fields.retain(|key, _| !["schema", "host", "outcome"].contains(&key.as_str()));
        fields.insert("event".to_owned(), name.into());
    }
    line
}

fn devices(spec: &MachineSpec) -> Vec<String> {
    spec.vfio.addresses().iter().map(ToString::to_string).collect()
}
