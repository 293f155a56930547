//! Which request means what: the Cloud Hypervisor v1 dialect under `/api/v1`, and what only we have under `/vmm/v1`.
//! docs/api/ has the schema.

use std::path::Path;
use std::sync::Arc;

use ::memory::residency::Placements;
use devices::pci::PciAddress;
use serde_json::{Map, Value, json};

use super::balloon;
use super::config::json_of;
use super::counters;
use super::error::{self, ApiError};
use super::fields::Fields;
use super::http::{Method, Request, Response};
use super::manager::{Manager, Overview};
use super::mem;
use super::memory;
use super::metrics::{self, Metrics};
use super::virtio;
use crate::machine::control::{ControlError, DevicePlace, Pace};
use crate::problem::Problems;

const DIALECT: &str = "/api/v1/";
const OWN: &str = "/vmm/v1/";
/// What a scraper is told the metrics are.
const PROMETHEUS: &str = "text/plain; version=0.0.4";

/// Calls of the dialect that are known and cannot be had, and why.
const MISSING: [(&str, &str); 11] = [
    ("vm.resize-zone", "there are no memory zones"),
    ("vm.add-pmem", "persistent memory is there from the start on or not at all"),
    ("vm.add-vdpa", "there is no vDPA"),
    ("vm.add-user-device", "there is no vfio-user"),
    ("vm.add-generic-vhost-user", "there is no vhost-user"),
    ("vm.snapshot", "there are no snapshots"),
    ("vm.restore", "there are no snapshots"),
    ("vm.send-migration", "machines cannot migrate"),
    ("vm.receive-migration", "machines cannot migrate"),
    ("vm.cancel-migration", "machines cannot migrate"),
    ("vm.migration-progress", "machines cannot migrate"),
];

type Answer = Result<Response, ApiError>;
type Call = fn(&Manager, &[u8]) -> Answer;

const CALLS: [(&str, Method, Call); 22] = [
    ("vmm.ping", Method::Get, |_, _| Ok(ping())),
    ("vmm.shutdown", Method::Put, |manager, _| done(manager.exit())),
    ("vm.create", Method::Put, |manager, body| done(manager.create(body))),
    ("vm.delete", Method::Put, |manager, _| done(manager.delete())),
    ("vm.boot", Method::Put, |manager, _| done(manager.boot())),
    ("vm.shutdown", Method::Put, |manager, _| done(manager.shutdown())),
    ("vm.info", Method::Get, |manager, _| info(manager)),
    ("vm.counters", Method::Get, |manager, _| counters(manager)),
    ("vm.pause", Method::Put, |manager, _| controlled(manager.control()?.pause())),
    ("vm.resume", Method::Put, |manager, _| controlled(manager.control()?.resume())),
    ("vm.reboot", Method::Put, |manager, _| controlled(manager.control()?.reboot())),
    ("vm.power-button", Method::Put, |manager, _| controlled(manager.control()?.power_button())),
    ("vm.nmi", Method::Put, |manager, _| controlled(manager.control()?.nmi())),
    ("vm.add-device", Method::Put, |manager, body| Ok(added(manager.add_device(body)?))),
    ("vm.add-disk", Method::Put, |manager, body| Ok(added(manager.add_virtio(virtio::disk_of(body)?)?))),
    ("vm.add-net", Method::Put, |manager, body| Ok(added(manager.add_virtio(virtio::net_of(body)?)?))),
    ("vm.add-fs", Method::Put, |manager, body| Ok(added(manager.add_virtio(virtio::fs_of(body)?)?))),
    ("vm.add-vsock", Method::Put, |manager, body| Ok(added(manager.add_virtio(virtio::vsock_of(body)?)?))),
    ("vm.remove-device", Method::Put, remove_device),
    ("vm.resize", Method::Put, resize),
    ("vm.resize-disk", Method::Put, resize_disk),
    ("vm.coredump", Method::Put, coredump),
];

const OWN_CALLS: [(&str, Call); 6] = [
    ("preflight", |manager, _| preflight(manager)),
    ("state", |manager, _| Ok(state(manager))),
    ("boot-phases", |manager, _| Ok(Response::json(200, &manager.record().phases()))),
    ("pin-report", |manager, _| pin_report(manager)),
    ("memory", |manager, _| memory(manager)),
    ("metrics", |manager, _| Ok(Response::text(PROMETHEUS, metrics(manager)))),
];

/// Answers every request of the API for one manager.
pub fn handler(manager: Arc<Manager>) -> impl Fn(&Request) -> Response + Send + Sync {
    move |request| {
        answer(&manager, request).unwrap_or_else(|error| {
        tracing::info!(path = request.path, status = error.status, why = ?error.messages, "request not done");
        error.response()
    })
    }
}

fn answer(manager: &Manager, request: &Request) -> Answer {
    if let Some(name) = request.path.strip_prefix(DIALECT) {
        if let Some((_, method, call)) = CALLS.iter().find(|(known, ..)| *known == name) {
            return if request.method == *method {
                call(manager, &request.body)
            } else {
                Err(wrong_method(*method))
            };
        }
        if let Some((_, why)) = MISSING.iter().find(|(known, _)| *known == name) {
            return Err(ApiError::new(501, format!("{name} is not to be had: {why}")));
        }
    } else if let Some(name) = request.path.strip_prefix(OWN)
        && let Some((_, call)) = OWN_CALLS.iter().find(|(known, _)| *known == name)
    {
        return if request.method == Method::Get {
            call(manager, &request.body)
        } else {
            Err(wrong_method(Method::Get))
        };
    }
    Err(ApiError::new(404, format!("there is no {}", request.path)))
}

fn wrong_method(method: Method) -> ApiError {
    let method = if method == Method::Get { "GET" } else { "PUT" };
    ApiError::new(400, format!("this takes the method {method}"))
}

fn done(result: Result<(), ApiError>) -> Answer {
    result.map(|()| Response::done())
}

fn controlled(result: Result<(), ControlError>) -> Answer {
    done(result.map_err(ApiError::from))
}

fn ping() -> Response {
    let version = env!("CARGO_PKG_VERSION");
    let body = json!({ "build_version": format!("vmm {version}"), "version": version, "pid": std::process::id(), "features": ["kvm"] });
    Response::json(200, &body)
}

fn info(manager: &Manager) -> Answer {
    let overview = manager.overview()?;
    let mut body = json!({
        "config": overview.configuration.to_json(overview.pty.as_deref()),
        "state": state_name(&overview),
        "memory_actual_size": overview.configuration.spec.memory,
    });
    if let (Some(info), Some(body)) = (&overview.info, body.as_object_mut()) {
        let memory = mem::actual(info.memory, info.pluggable.as_ref());
        let given = info.balloon.as_ref().map_or(0, |balloon| balloon.actual);
        body.insert("memory_actual_size".to_owned(), memory.saturating_sub(given).into());
        if let Some(balloon) = &info.balloon {
            body.insert("balloon".to_owned(), balloon::state(balloon));
        }
        let node = |id: &str, guest: PciAddress| {
            let node = json!({ "id": id, "resources": [], "parent": null, "children": [], "pci_bdf": guest.to_string() });
            (id.to_owned(), node)
        };
        let device = |place: &DevicePlace| Some(node(overview.configuration.id_of(place.host)?, place.guest));
        let mut tree: Map<String, Value> = info.devices.iter().filter_map(device).collect();
        tree.extend(info.plugged.iter().map(|place| node(&place.id, place.guest)));
        body.insert("device_tree".to_owned(), tree.into());
    }
    Ok(Response::json(200, &body))
}

/// The states that the dialect has.
fn state_name(overview: &Overview) -> &'static str {
    match overview.info.as_ref().map(|info| info.pace) {
        Some(Pace::Running | Pace::Pausing) => "Running",
        Some(Pace::Paused) => "Paused",
        None => "Created",
    }
}

fn counters(manager: &Manager) -> Answer {
    let parts = counters::parts(&manager.counters()?, &manager.overview()?);
    Ok(Response::json(200, &counters::json_of(parts)))
}

fn added((id, guest): (String, Option<PciAddress>)) -> Response {
    match guest {
        Some(guest) => Response::json(200, &json!({ "id": id, "bdf": guest.to_string() })),
        // It is there when the machine boots.
        None => Response::done(),
    }
}

fn remove_device(manager: &Manager, body: &[u8]) -> Answer {
    let mut refused = Vec::new();
    let mut fields = Fields::of("", json_of(body)?, &mut refused);
    let id = fields.text("id");
    if id.is_none() {
        fields.refuse("id", "is missing: it is the name of a device");
    }
    fields.finish();
    match id {
        Some(id) if refused.is_empty() => done(manager.remove_device(&id)),
        _ => Err(ApiError::bad_request(refused)),
    }
}

/// vCPUs do not come or go, so a machine can only be asked for what it has, which tools do. So it is with RAM, unless there is room
/// to plug it in. What a balloon takes from its guest can change.
fn resize(manager: &Manager, body: &[u8]) -> Answer {
    let mut refused = Vec::new();
    let mut fields = Fields::of("", json_of(body)?, &mut refused);
    let (cpus, ram) = (fields.number("desired_vcpus"), fields.number("desired_ram"));
    let balloon = fields.number("desired_balloon");
    fields.finish();
    if !refused.is_empty() {
        return Err(ApiError::bad_request(refused));
    }
    let has = u64::from(manager.overview()?.configuration.spec.cpus);
    if let Some(wanted) = cpus.filter(|wanted| *wanted != has) {
        let what =
            format!("desired_vcpus cannot be {wanted}, the machine has {has}: vCPUs do not come or go");
        let help = "help: create it anew with what it is to have, with vm.create or --cpus".to_owned();
        return Err(ApiError { status: 501, messages: vec![what, help] });
    }
    ram.map_or(Ok(()), |ram| manager.resize_memory(ram))?;
    done(balloon.map_or(Ok(()), |size| manager.resize_balloon(size)))
}

fn resize_disk(manager: &Manager, body: &[u8]) -> Answer {
    let mut refused = Vec::new();
    let mut fields = Fields::of("", json_of(body)?, &mut refused);
    let (id, size) = (fields.text("id"), fields.number("desired_size"));
    if id.is_none() {
        fields.refuse("id", "is missing: it is the name of a disk, as _disk0");
    }
    if size.is_none() {
        fields.refuse("desired_size", "is missing: it is the number of bytes that the disk is to have");
    }
    fields.finish();
    match id.zip(size) {
        Some((id, size)) if refused.is_empty() => controlled(manager.control()?.resize_disk(&id, size)),
        _ => Err(ApiError::bad_request(refused)),
    }
}

fn coredump(manager: &Manager, body: &[u8]) -> Answer {
    let mut refused = Vec::new();
    let mut fields = Fields::of("", json_of(body)?, &mut refused);
    let url = fields.text("destination_url");
    // As it stands there: nothing of it is decoded.
    let path = url.as_deref().and_then(|url| url.strip_prefix("file://")).map(Path::new);
    let path = path.filter(|path| path.is_absolute());
    if path.is_none() {
        let why = "must be file:// and an absolute path, as in file:///var/tmp/guest.core";
        fields.refuse("destination_url", why);
    }
    fields.finish();
    match path {
        Some(path) if refused.is_empty() => controlled(manager.control()?.coredump(path)),
        _ => Err(ApiError::bad_request(refused)),
    }
}

/// As `vm.info`'s state, with what that has no word for, and how far a start is.
fn state(manager: &Manager) -> Response {
    let state = match manager.overview() {
        Err(_) => "None",
        Ok(overview) if overview.starting => "Starting",
        Ok(overview) => state_name(&overview),
    };
    Response::json(200, &json!({ "state": state, "progress": manager.record().progress() }))
}

fn pin_report(manager: &Manager) -> Answer {
    let report = manager.record().pin_report();
    let report = report.ok_or_else(|| ApiError::new(404, "no guest memory has been pinned"))?;
    let report = serde_json::to_value(report).map_err(|error| ApiError::new(500, error.to_string()))?;
    Ok(Response::json(200, &report))
}

/// What is in the way of a start: each problem with its causes, and its remedy last.
fn preflight(manager: &Manager) -> Answer {
    let Problems(problems) = manager.preflight()?.err().unwrap_or_default();
    let told: Vec<Vec<String>> = problems.iter().map(|problem| error::told(problem.what.as_ref())).collect();
    Ok(Response::json(200, &json!({ "ready": told.is_empty(), "problems": told })))
}

/// Walks the page tables of all guest RAM, here and not on the machine's thread.
fn memory(manager: &Manager) -> Answer {
    let ram = manager.control()?.ram()?;
    let placements = Placements::of(&ram).map_err(|error| {
        ApiError::new(500, format!("the page tables of guest memory cannot be read: {error}"))
    })?;
    Ok(Response::json(200, &memory::json_of(&placements)))
}

fn metrics(manager: &Manager) -> String {
    let overview = manager.overview().ok();
    let counted = manager.counters().ok();
    let pinning = manager.record().pin_report().map(|report| report.metrics()).unwrap_or_default();
    let machine = Metrics {
        pace: overview.as_ref().and_then(|overview| overview.info.as_ref()).map(|info| info.pace),
        memory: overview.as_ref().map(|overview| overview.configuration.spec.memory),
        parts: overview
            .as_ref()
            .and_then(|it| Some(counters::parts(counted.as_ref()?, it)))
            .unwrap_or_default(),
        latencies: counted
            .iter()
            .flat_map(|it| &it.disks)
            .map(|(id, disk)| (id.clone(), disk.latency))
            .collect(),
        balloon: overview.as_ref().and_then(|overview| overview.info.as_ref()?.balloon.clone()),
        phases: &manager.record().phases(),
        reboots: manager.record().reboots(),
        resident: metrics::resident(),
    };
    machine.text() + &pinning
}

#[cfg(test)]
#[path = "routes_test.rs"]
mod tests;
