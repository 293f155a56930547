//! Virtio devices as the dialect describes them, both ways.

use serde_json::{Map, Value, json};

use super::fields::Fields;
use crate::virtio::VirtioSpec;
use crate::virtio::vsock::VsockSpec;

/// What the dialect's entropy device may be fed from: the kernel's generator under all its names.
const ENTROPY: [&str; 2] = ["/dev/urandom", "/dev/random"];

/// Reads all of them from a machine's description.
pub(super) fn read(config: &mut Fields) -> VirtioSpec {
    VirtioSpec {
        rng: config.object("rng", read_rng).is_some(),
        vsock: config.object("vsock", read_vsock).flatten(),
        ..VirtioSpec::default()
    }
}

/// Adds all of them to a machine's description.
pub(super) fn describe(spec: &VirtioSpec, config: &mut Map<String, Value>) {
    if spec.rng {
        config.insert("rng".to_owned(), json!({ "src": ENTROPY[0], "iommu": false }));
    }
    if let Some(VsockSpec { cid, socket }) = &spec.vsock {
        config.insert("vsock".to_owned(), json!({ "cid": cid, "socket": socket, "iommu": false }));
    }
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
    let (cid, socket) = (vsock.number("cid"), vsock.path("socket"));
    if cid.is_none() {
        vsock.refuse("cid", "is missing: it is the guest's address, 3 or more");
    }
    if socket.is_none() {
        vsock.refuse("socket", "is missing: it is the path that programs of the host connect to");
    }
    // What is too large is no address either, which is said with all the rest.
    Some(VsockSpec { cid: u32::try_from(cid?).unwrap_or(u32::MAX), socket: socket? })
}

/// Where a device is on the guest's buses is not for clients to say, and no device is behind a virtual IOMMU.
fn placed_by_us(device: &mut Fields) {
    device.only("iommu", false);
    device.only("pci_segment", 0);
}
