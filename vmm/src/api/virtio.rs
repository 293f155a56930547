//! Virtio devices as the dialect describes them, both ways.

use devices::virtio::net::NetLimits;
use devices::virtio::pmem::PmemOptions;
use serde_json::{Map, Value, json};

use super::balloon;
use super::config::json_of;
use super::disks;
use super::error::ApiError;
use super::fields::Fields;
use super::limits;
use crate::virtio::VirtioSpec;
use crate::virtio::fs::FsSpec;
use crate::virtio::net::{NetServer, NetSpec, TapSource};
use crate::virtio::plugged::{Pluggable, PluggedSpec};
use crate::virtio::vsock::{VsockServer, VsockSpec};

/// What the dialect's entropy device may be fed from: the kernel's generator under all its names.
const ENTROPY: [&str; 2] = ["/dev/urandom", "/dev/random"];

/// Reads all of them from a machine's description.
pub(super) fn read(config: &mut Fields) -> VirtioSpec {
    let disks = each(config, "disks", disks::read);
    let pmems = each(config, "pmem", read_pmem);
    let nets = each(config, "net", read_net);
    let rng = config.object("rng", read_rng).is_some();
    let vsock = config.object("vsock", read_vsock).flatten();
    let shares = each(config, "fs", read_fs);
    let balloon = config.object("balloon", balloon::read).flatten();
    VirtioSpec { disks, pmems, nets, rng, vsock, shares, balloon, ..VirtioSpec::default() }
}

/// Reads the objects of a list.
fn each<T>(config: &mut Fields, name: &str, read: fn(&mut Fields) -> Option<T>) -> Vec<T> {
    let (path, list) = (config.name(name), config.list(name));
    let read = |(index, value)| {
        let mut fields = Fields::of(format!("{path}[{index}]"), value, config.refused());
        let item = read(&mut fields);
        fields.finish();
        item
    };
    list.into_iter().enumerate().filter_map(read).collect()
}

/// A device that a request's body describes, and the name it is to have.
pub(super) type Described = (Option<String>, Pluggable);

/// The disk that a request's body describes.
pub(super) fn disk_of(body: &[u8]) -> Result<Described, ApiError> {
    one(body, |disk| disks::read(disk).map(Pluggable::Disk))
}

/// The network card that a request's body describes.
pub(super) fn net_of(body: &[u8]) -> Result<Described, ApiError> {
    one(body, |net| read_net(net).map(Pluggable::Net))
}

/// The shared directory that a request's body describes.
pub(super) fn fs_of(body: &[u8]) -> Result<Described, ApiError> {
    one(body, |fs| read_fs(fs).map(Pluggable::Share))
}

/// The socket device that a request's body describes.
pub(super) fn vsock_of(body: &[u8]) -> Result<Described, ApiError> {
    one(body, |vsock| read_vsock(vsock).map(Pluggable::Vsock))
}

fn one(body: &[u8], read: impl FnOnce(&mut Fields) -> Option<Pluggable>) -> Result<Described, ApiError> {
    let mut refused = Vec::new();
    let mut device = Fields::of("", json_of(body)?, &mut refused);
    let id = name_of(&mut device);
    let read = read(&mut device);
    device.finish();
    match read {
        Some(read) if refused.is_empty() => Ok((id, read)),
        _ => Err(ApiError::bad_request(refused)),
    }
}

/// Adds all of them to a machine's description; those behind root ports have their names.
pub(super) fn describe(spec: &VirtioSpec, plugged: &[PluggedSpec], config: &mut Map<String, Value>) {
    if !spec.disks.is_empty() {
        config.insert("disks".to_owned(), spec.disks.iter().map(disks::describe).collect());
    }
    if !spec.pmems.is_empty() {
        config.insert("pmem".to_owned(), spec.pmems.iter().map(describe_pmem).collect());
    }
    if !spec.nets.is_empty() {
        config.insert("net".to_owned(), spec.nets.iter().map(describe_net).collect());
    }
    if spec.rng {
        config.insert("rng".to_owned(), json!({ "src": ENTROPY[0], "iommu": false }));
    }
    if let Some(vsock) = &spec.vsock {
        config.insert("vsock".to_owned(), describe_vsock(vsock));
    }
    if !spec.shares.is_empty() {
        config.insert("fs".to_owned(), spec.shares.iter().map(describe_fs).collect());
    }
    if let Some(balloon) = &spec.balloon {
        config.insert("balloon".to_owned(), balloon::describe(balloon));
    }
    for PluggedSpec { id, device } in plugged {
        let (list, mut described) = match device {
            Pluggable::Disk(disk) => ("disks", disks::describe(disk)),
            Pluggable::Net(net) => ("net", describe_net(net)),
            Pluggable::Share(share) => ("fs", describe_fs(share)),
            Pluggable::Vsock(vsock) => ("vsock", describe_vsock(vsock)),
        };
        if let Some(fields) = described.as_object_mut() {
            fields.insert("id".to_owned(), id.as_str().into());
        }
        match config.entry(list).or_insert_with(|| json!([])) {
            Value::Array(items) if list != "vsock" => items.push(described),
            only => *only = described,
        }
    }
}

fn describe_vsock(VsockSpec { cid, server }: &VsockSpec) -> Value {
    match server {
        VsockServer::Bridge(socket) => json!({ "cid": cid, "socket": socket, "iommu": false }),
        VsockServer::Kernel => json!({ "cid": cid, "vhost": true, "iommu": false }),
    }
}

/// Persistent memory. A guest that may write and whose writes are forgotten with the machine (`discard_writes`) is not to be had.
fn read_pmem(pmem: &mut Fields) -> Option<PmemOptions> {
    pmem.text("id");
    placed_by_us(pmem);
    let (path, size) = (pmem.path("file"), pmem.number("size"));
    if path.is_none() {
        pmem.refuse("file", "is missing: it is the path of the file that the memory is");
    }
    Some(PmemOptions { path: path?, read_only: pmem.flag("readonly").unwrap_or(false), size, lock: true })
}

fn describe_pmem(pmem: &PmemOptions) -> Value {
    let PmemOptions { path, read_only, size, lock: _ } = pmem;
    json!({ "file": path, "readonly": read_only, "size": size, "discard_writes": false, "iommu": false })
}

/// A shared directory, as the dialect has it where it says nothing else.
const FS_QUEUES: u16 = 1;
const FS_QUEUE_SIZE: u16 = 1024;

fn read_fs(fs: &mut Fields) -> Option<FsSpec> {
    fs.text("id");
    placed_by_us(fs);
    let (tag, socket) = (fs.text("tag"), fs.path("socket"));
    if tag.is_none() {
        fs.refuse("tag", "is missing: it is what the guest mounts the directory by");
    }
    if socket.is_none() {
        fs.refuse("socket", "is missing: it is the path that the directory's daemon listens at");
    }
    // What is too large is refused with all the rest.
    let number =
        |number: Option<u64>, usual| number.map_or(usual, |it| u16::try_from(it).unwrap_or(u16::MAX));
    let queues = number(fs.number("num_queues"), FS_QUEUES);
    let queue_size = number(fs.number("queue_size"), FS_QUEUE_SIZE);
    Some(FsSpec { socket: socket?, tag: tag?, queues, queue_size })
}

fn describe_fs(fs: &FsSpec) -> Value {
    let FsSpec { socket, tag, queues, queue_size } = fs;
    json!({ "tag": tag, "socket": socket, "num_queues": queues, "queue_size": queue_size })
}

fn read_rng(rng: &mut Fields) {
    match rng.text("src") {
        Some(source) if !ENTROPY.contains(&source.as_str()) => {
            rng.refuse("src", "must be /dev/urandom: entropy comes from the host's generator");
        }
        _ => {}
    }
    placed_by_us(rng);
}

fn read_vsock(vsock: &mut Fields) -> Option<VsockSpec> {
    vsock.text("id");
    placed_by_us(vsock);
    let (cid, socket, vhost) = (vsock.number("cid"), vsock.path("socket"), vsock.flag("vhost"));
    if cid.is_none() {
        vsock.refuse("cid", "is missing: it is the guest's address, 3 or more");
    }
    let server = match (socket, vhost.unwrap_or(false)) {
        (Some(socket), false) => Some(VsockServer::Bridge(socket)),
        (None, true) => Some(VsockServer::Kernel),
        (Some(_), true) => {
            vsock.refuse("socket", "does not go with vhost: the kernel's sockets have no path");
            None
        }
        (None, false) => {
            vsock.refuse("socket", "is missing: it is the path that programs of the host connect to");
            None
        }
    };
    // What is too large is no address either, which is said with all the rest.
    Some(VsockSpec { cid: u32::try_from(cid?).unwrap_or(u32::MAX), server: server? })
}

/// The fields that say whether a card has offloads: all of them or none.
const OFFLOADS: [&str; 3] = ["offload_tso", "offload_ufo", "offload_csum"];
/// A network card. A tap of that name is made if there is none.
fn read_net(net: &mut Fields) -> Option<NetSpec> {
    let name = net.text("tap");
    if name.is_none() {
        net.refuse("tap", "is missing: a network card needs the name of a tap");
    }
    let mac = net.text("mac").map(|mac| mac.parse());
    if matches!(mac, Some(Err(_))) {
        net.refuse("mac", "must be the MAC address of a card, such as 02:00:5e:10:00:01");
    }
    let mtu = net.number("mtu").map(|mtu| u16::try_from(mtu).unwrap_or(u16::MAX));
    let queues = net.number("num_queues").and_then(|queues| {
        if queues == 0 || queues % 2 != 0 {
            net.refuse("num_queues", "must be even: queues come in pairs");
        }
        u16::try_from(queues / 2).ok().filter(|pairs| *pairs > 0)
    });
    let id = name_of(net);
    queue_size(net);
    net.only("vhost_user", false);
    net.only("vhost_mode", "Client");
    let offloads = OFFLOADS.map(|name| net.flag(name).unwrap_or(true));
    if offloads.iter().any(|offload| *offload != offloads[0]) {
        net.refuse(
            OFFLOADS[0],
            "must be as offload_ufo and offload_csum are: a card has all offloads or none",
        );
    }
    let limits = limits::read(net);
    placed_by_us(net);
    let tap = TapSource::Named { name: name?, create: true };
    let (mac, offloads) = (mac.and_then(Result::ok), offloads[0]);
    // The dialect has one for both directions, each of which may do that much.
    let limits = NetLimits { received: limits, sent: limits };
    let server = if limits.is_none() { NetServer::Usual } else { NetServer::Us { packed: false, limits } };
    Some(NetSpec { id, tap, mac, mtu, queues, offloads, server })
}

fn describe_net(net: &NetSpec) -> Value {
    let mut described = Map::new();
    let mut put = |name: &str, value: Value| described.insert(name.to_owned(), value);
    put("tap", net.tap.name().into());
    net.id.as_ref().map(|id| put("id", id.as_str().into()));
    net.mac.map(|mac| put("mac", mac.to_string().into()));
    net.mtu.map(|mtu| put("mtu", mtu.into()));
    net.queues.map(|pairs| put("num_queues", pairs.saturating_mul(2).into()));
    for name in OFFLOADS {
        put(name, net.offloads.into());
    }
    put("iommu", false.into());
    match net.server {
        // It has no words for any others.
        NetServer::Us { limits, .. } if limits.received == limits.sent => {
            limits::describe(limits.sent, &mut described);
        }
        _ => {}
    }
    Value::Object(described)
}

/// The most entries that a queue can be asked to have (virtio 1.2 §2.7).
const MOST_ENTRIES: u64 = 32768;

/// Entries of each queue, which are a hint: those of disks and network cards always have 256.
pub(super) fn queue_size(device: &mut Fields) {
    let size = device.number("queue_size");
    if size.is_some_and(|size| !size.is_power_of_two() || size > MOST_ENTRIES) {
        device.refuse("queue_size", &format!("must be a power of two up to {MOST_ENTRIES}"));
    }
}

/// What a device is to be called. One that is plugged in has had its name taken out already.
pub(super) fn name_of(device: &mut Fields) -> Option<String> {
    let id = device.text("id");
    if id.as_ref().is_some_and(String::is_empty) {
        device.refuse("id", "must not be empty; left out, the device gets a name");
    }
    id
}

/// Where a device is on the guest's buses is not for clients to say, and no device is behind a virtual IOMMU.
pub(super) fn placed_by_us(device: &mut Fields) {
    device.only("iommu", false);
    device.only("pci_segment", 0);
}
