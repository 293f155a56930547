//! A machine as the dialect describes it (VmConfig), and as we do. What Cloud Hypervisor has and we have not is refused
//! with its name; what it leaves out has its default there, except that a virtio console has to be asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use devices::pci::PciAddress;
use memory::Backing;
use serde_json::{Value, json};
use vfio::{DeviceRequest, Request};

use super::console;
use super::error::ApiError;
use super::fields::Fields;
use super::mem;
use super::virtio;
use crate::machine::control::DeviceName;
use crate::problem::Problems;
use crate::spec::{InitrdSource, MachineSpec, Serial};
use crate::virtio::iommu::IommuError;
use crate::virtio::plugged::{self, Pluggable, PluggedSpec};
use crate::virtio::{VirtioSpec, disk, net};

/// vCPUs that can be placed: more than any KVM has.
const MOST_PLACED: u32 = 1 << 16;

/// Where VFIO devices are named.
const PCI_DEVICES: &str = "/sys/bus/pci/devices";

/// A machine that has been asked for.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// What it is.
    pub spec: MachineSpec,
    /// The names its passed-through devices have in the API; each has one. Virtio devices behind root ports have theirs in
    /// `spec`.
    pub ids: BTreeMap<String, PciAddress>,
}

impl Configuration {
    /// A machine that was asked for on the command line.
    pub fn new(spec: MachineSpec) -> Self {
        let devices = spec.vfio.addresses();
        let mut configuration = Self { spec, ids: BTreeMap::new() };
        devices.into_iter().for_each(|address| {
            let id = configuration.free_id();
            configuration.ids.insert(id, address);
        });
        configuration
    }

    /// What a client asks for; what it does not say is as in `defaults`.
    pub fn parse(body: &[u8], defaults: &MachineSpec) -> Result<Self, ApiError> {
        let mut refused = Vec::new();
        let mut config = Fields::of("", json_of(body)?, &mut refused);
        let mut spec = MachineSpec {
            kernel: None,
            initrd: None,
            cmdline: String::new(),
            numa: Vec::new(),
            vfio: Request::default(),
            serial: Serial::Null,
            end_of_input: None,
            ..defaults.clone()
        };
        config.object("cpus", |cpus| read_cpus(cpus, &mut spec));
        config.object("memory", |memory| read_memory(memory, &mut spec));
        match config.object("payload", |payload| read_payload(payload, &mut spec)) {
            Some(()) if spec.kernel.is_some() => {}
            _ => config.refuse("payload.kernel", "is missing: it is the path of a bzImage or of a vmlinux"),
        }
        if let Some(Some(serial)) = config.object("serial", read_serial) {
            spec.serial = serial;
        }
        let ports = config.object("console", console::read).unwrap_or_default();
        config.object("debug_console", |console| {
            console.only("mode", "Off");
            console.only("iobase", 0xe9);
        });
        config.object("platform", read_platform);
        spec.virtio = VirtioSpec { console: ports, ..virtio::read(&mut config) };
        let mut configuration = Self { spec, ids: BTreeMap::new() };
        let mut names = BTreeSet::new();
        if let Some(twice) = configuration.fixed_names().find(|name| !names.insert(name.clone())) {
            config.refuse("disks", &format!("or net: two devices are called `{twice}`"));
        }
        for (index, device) in config.list("devices").into_iter().enumerate() {
            let path = config.name(&format!("devices[{index}]"));
            let mut device = Fields::of(path, device, config.refused());
            read_device(&mut device, &mut configuration);
            device.finish();
        }
        config.finish();
        let mut problems = Problems::default();
        configuration.spec.validate(&mut problems);
        refused.extend(ApiError::from(&problems).messages);
        if refused.is_empty() { Ok(configuration) } else { Err(ApiError::bad_request(refused)) }
    }

    /// Adds a device under this name, or under a free one; gives the name.
    pub fn add(&mut self, id: Option<String>, address: PciAddress) -> Result<String, String> {
        let id = id.unwrap_or_else(|| self.free_id());
        if self.is_taken(&id) {
            return Err(format!("is `{id}`, as another device's is"));
        }
        if self.ids.values().any(|other| *other == address) {
            return Err(format!("is {address}, as another device is"));
        }
        self.ids.insert(id.clone(), address);
        self.spec.vfio.devices.push(DeviceRequest::at(address));
        Ok(id)
    }

    /// Adds a virtio device behind a root port, under this name or under a free one; gives the name.
    pub fn plug(&mut self, id: Option<String>, device: Pluggable) -> Result<String, ApiError> {
        let id = id.unwrap_or_else(|| self.free_id_for(&device));
        if self.is_taken(&id) {
            return Err(ApiError::new(409, format!("the device's name is `{id}`, as another device's is")));
        }
        self.spec.plugged.push(PluggedSpec { id: id.clone(), device });
        let mut problems = Problems::default();
        plugged::validate(&self.spec.virtio, &self.spec.plugged, &mut problems);
        if !problems.0.is_empty() {
            self.spec.plugged.pop();
            return Err(ApiError::bad_request(ApiError::from(&problems).messages));
        }
        Ok(id)
    }

    /// Has a device behind a root port whenever the machine boots, so that it can be taken out.
    pub fn put_behind_a_port(&mut self, address: PciAddress) {
        let devices = self.spec.vfio.devices.iter_mut();
        devices.filter(|device| device.address == address).for_each(|device| device.port = true);
    }

    /// Has the guest say what a device reaches.
    fn confine(&mut self, address: PciAddress) {
        let devices = self.spec.vfio.devices.iter_mut();
        devices.filter(|device| device.address == address).for_each(|device| device.confined = true);
    }

    /// Takes a device out.
    pub fn remove(&mut self, name: &DeviceName) {
        match name {
            DeviceName::Host(address) => {
                self.ids.retain(|_, other| other != address);
                self.spec.vfio.devices.retain(|other| other.address != *address);
            }
            DeviceName::Virtio(id) => self.spec.plugged.retain(|other| other.id != *id),
        }
    }

    /// The device of this name that can be taken out, or at this address on the host.
    pub fn device(&self, id: &str) -> Option<DeviceName> {
        if self.spec.plugged.iter().any(|plugged| plugged.id == id) {
            return Some(DeviceName::Virtio(id.to_owned()));
        }
        let at = || id.parse().ok().filter(|address| self.ids.values().any(|other| other == address));
        self.ids.get(id).copied().or_else(at).map(DeviceName::Host)
    }

    /// Why there is no device of this name to be taken out.
    pub(super) fn no_device(&self, id: &str) -> ApiError {
        if !self.is_taken(id) {
            return ApiError::unknown_device(id);
        }
        let fixed =
            format!("{id} cannot be unplugged: it is on the guest's bus 0, where nothing comes or goes");
        let help = "help: what is added while the machine is there, as with vm.add-disk, can be removed";
        ApiError { status: 500, messages: vec![fixed, help.to_owned()] }
    }

    /// The taps of its network cards, by the names of the cards.
    pub(super) fn taps(&self) -> Vec<(String, &str)> {
        let fixed = self.spec.virtio.nets.iter().enumerate();
        let fixed = fixed.map(|(number, net)| (net.name(number), net.tap.name()));
        let plugged = self.spec.plugged.iter().filter_map(|plugged| match &plugged.device {
            Pluggable::Net(net) => Some((plugged.id.clone(), net.tap.name())),
            _ => None,
        });
        fixed.chain(plugged).collect()
    }

    /// The name of a device.
    pub fn id_of(&self, address: PciAddress) -> Option<&str> {
        self.ids.iter().find(|(_, other)| **other == address).map(|(id, _)| id.as_str())
    }

    /// Whether a device has this name.
    fn is_taken(&self, id: &str) -> bool {
        self.ids.contains_key(id)
            || self.spec.plugged.iter().any(|plugged| plugged.id == id)
            || self.fixed_names().any(|name| name == id)
    }

    /// What the disks and network cards are called that it starts with.
    fn fixed_names(&self) -> impl Iterator<Item = String> {
        let disks = self.spec.virtio.disks.iter().enumerate().map(|(number, disk)| disk.name(number));
        disks.chain(self.spec.virtio.nets.iter().enumerate().map(|(number, net)| net.name(number)))
    }

    fn free_id(&self) -> String {
        self.free(|number| format!("_vfio{number}"))
    }

    fn free_id_for(&self, device: &Pluggable) -> String {
        self.free(|number| match device {
            Pluggable::Disk(_) => disk::id(number),
            Pluggable::Net(_) => net::id(number),
            Pluggable::Share(_) => format!("_fs{number}"),
            Pluggable::Vsock(_) => format!("_vsock{number}"),
        })
    }

    fn free(&self, id: impl Fn(usize) -> String) -> String {
        (0..).map(id).find(|id| !self.is_taken(id)).unwrap_or_default()
    }

    /// As the dialect describes it. `pty` is where its serial port is, if that is a pseudo-terminal.
    pub fn to_json(&self, pty: Option<&Path>) -> Value {
        let spec = &self.spec;
        let initramfs = match &spec.initrd {
            Some(InitrdSource::File(path)) => Some(path),
            Some(InitrdSource::Made(_)) | None => None,
        };
        let devices: Vec<Value> = spec
            .vfio
            .devices
            .iter()
            .map(|DeviceRequest { address, confined, .. }| {
                json!({ "id": self.id_of(*address), "path": format!("{PCI_DEVICES}/{address}"), "iommu": confined, "pci_segment": 0 })
            })
            .collect();
        let placed = spec.placement.vcpus.iter().enumerate().filter(|(_, on)| !on.is_empty());
        let placed = placed.map(|(vcpu, on)| json!({ "vcpu": vcpu, "host_cpus": on }));
        let placed: Vec<Value> = placed.collect();
        let mut config = json!({
            "cpus": { "boot_vcpus": spec.cpus, "max_vcpus": spec.cpus },
            "memory": {
                "size": spec.memory,
                "shared": true,
                "prefault": spec.prefault,
                "hugepages": spec.backing.huge_page().is_some(),
                "hugepage_size": spec.backing.huge_page(),
            },
            "payload": { "kernel": spec.kernel, "cmdline": spec.cmdline, "initramfs": initramfs },
            "serial": { "mode": spec.serial.name(), "file": spec.serial.file().or(pty) },
            "console": console::describe(&spec.virtio.console),
        });
        if let Some(cpus) =
            config.get_mut("cpus").and_then(Value::as_object_mut).filter(|_| !placed.is_empty())
        {
            cpus.insert("affinity".to_owned(), placed.into());
        }
        if let Some(memory) = config.get_mut("memory").and_then(Value::as_object_mut) {
            mem::describe(spec, memory);
        }
        if let Some(config) = config.as_object_mut() {
            virtio::describe(&spec.virtio, &spec.plugged, config);
            if !devices.is_empty() {
                config.insert("devices".to_owned(), devices.into());
            }
        }
        config
    }
}

/// The JSON in a request's body.
pub(super) fn json_of(body: &[u8]) -> Result<Value, ApiError> {
    serde_json::from_slice(body).map_err(|error| {
        ApiError::bad_request(vec!["the request's body is not JSON".to_owned(), error.to_string()])
    })
}

/// The device that a request's body describes: its address and the name it is to have.
pub(super) fn device_of(body: &[u8]) -> Result<(PciAddress, Option<String>), ApiError> {
    let mut refused = Vec::new();
    let mut device = Fields::of("", json_of(body)?, &mut refused);
    let read = device_fields(&mut device);
    if let (Some((address, _)), Some(true)) = (&read, device.flag("iommu")) {
        device.refuse("iommu", &format!("cannot be true: {}", IommuError::Late(*address)));
    }
    device.finish();
    match read {
        Some(device) if refused.is_empty() => Ok(device),
        _ => Err(ApiError::bad_request(refused)),
    }
}

fn read_cpus(cpus: &mut Fields, spec: &mut MachineSpec) {
    let boot = cpus.number("boot_vcpus");
    if let Some(count) = boot {
        spec.cpus = u32::try_from(count).unwrap_or(u32::MAX);
    }
    // Room to grow in, which many ask for and few use: that none can be added is said when one is to be.
    if cpus.number("max_vcpus").is_some_and(|most| most < u64::from(spec.cpus)) {
        cpus.refuse("max_vcpus", "must not be below boot_vcpus");
    }
    spec.placement.vcpus = cpus_of_vcpus(cpus, spec.cpus);
    cpus.only("nested", true);
    cpus.only("core_scheduling", "Off");
    cpus.only("max_phys_bits", 46);
    cpus.object("features", |_| ());
}

/// The host's CPUs that each vCPU may run on (CpuAffinity); empty when nothing is said of any.
fn cpus_of_vcpus(cpus: &mut Fields, vcpus: u32) -> Vec<Vec<u32>> {
    let (path, list) = (cpus.name("affinity"), cpus.list("affinity"));
    if list.is_empty() {
        return Vec::new();
    }
    let mut all = vec![Vec::new(); vcpus.min(MOST_PLACED) as usize];
    for (index, one) in list.into_iter().enumerate() {
        let mut one = Fields::of(format!("{path}[{index}]"), one, cpus.refused());
        let place = one.number("vcpu").and_then(|vcpu| all.get_mut(usize::try_from(vcpu).ok()?));
        let on = one.list("host_cpus");
        match place {
            Some(place) => *place = on.iter().filter_map(|cpu| u32::try_from(cpu.as_u64()?).ok()).collect(),
            None => one.refuse("vcpu", "must be the number of one of the vCPUs, from 0 up"),
        }
        if on.is_empty() || on.iter().any(|cpu| cpu.as_u64().is_none_or(|cpu| u32::try_from(cpu).is_err())) {
            one.refuse("host_cpus", "must be a list of CPUs of the host, by their numbers");
        }
        one.finish();
    }
    all
}

fn read_memory(memory: &mut Fields, spec: &mut MachineSpec) {
    if let Some(size) = memory.number("size") {
        spec.memory = size;
    }
    spec.prefault = memory.flag("prefault").unwrap_or(spec.prefault);
    let huge = memory.flag("hugepages").unwrap_or_default();
    let page = memory.number("hugepage_size");
    if huge {
        match page.map(|page| Backing::HugePages { page }).or_else(Backing::usual_huge_pages) {
            Some(backing) => spec.backing = backing,
            None => memory.refuse("hugepages", "cannot be had: the host has no huge pages"),
        }
    }
    // Guest memory is a memfd whatever is said; nobody else is given it unless a device needs that.
    memory.flag("shared");
    mem::read(memory, spec);
    memory.only("thp", true);
}

fn read_payload(payload: &mut Fields, spec: &mut MachineSpec) {
    spec.kernel = payload.path("kernel");
    spec.initrd = payload.path("initramfs").map(InitrdSource::File);
    spec.cmdline = payload.text("cmdline").unwrap_or_default();
}

fn read_serial(serial: &mut Fields) -> Option<Serial> {
    let file = serial.path("file");
    let mode = serial.text("mode");
    match (mode.as_deref(), file) {
        (Some("Off"), _) => Some(Serial::Off),
        (Some("Null"), _) => Some(Serial::Null),
        (Some("Tty"), _) => Some(Serial::Tty),
        (Some("Pty"), _) => Some(Serial::Pty),
        (Some("File"), Some(path)) => Some(Serial::File(path)),
        (Some("File"), None) => {
            serial.refuse("file", "is missing: it is the path that output goes to");
            None
        }
        (Some(mode), _) => {
            serial.refuse("mode", &format!("cannot be {mode}; Off, Null, Tty, Pty and File can be had"));
            None
        }
        (None, _) => {
            serial.refuse("mode", "is missing");
            None
        }
    }
}

fn read_platform(platform: &mut Fields) {
    platform.only("num_pci_segments", 1);
    platform.only("iommu_address_width_bits", 64);
    platform.only("vfio_p2p_dma", true);
}

fn read_device(device: &mut Fields, configuration: &mut Configuration) {
    let Some((address, id)) = device_fields(device) else { return };
    match configuration.add(id, address) {
        Ok(_) if device.flag("iommu") == Some(true) => configuration.confine(address),
        Ok(_) => {}
        Err(why) => device.refuse("id", &why),
    }
}

fn device_fields(device: &mut Fields) -> Option<(PciAddress, Option<String>)> {
    device.only("pci_segment", 0);
    let id = device.text("id");
    let Some(path) = device.path("path") else {
        device.refuse("path", &format!("is missing: it is {PCI_DEVICES}/SEGMENT:BUS:DEVICE.FUNCTION"));
        return None;
    };
    let address = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
    if address.is_none() {
        device.refuse("path", "does not end in the address of a PCI device");
    }
    Some((address?, id))
}

#[cfg(test)]
#[path = "config_test.rs"]
mod tests;
