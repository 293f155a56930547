//! Virtio devices as the dialect describes them, both ways.

use serde_json::{Map, Value, json};

use super::fields::Fields;
use crate::virtio::VirtioSpec;

/// What the dialect's entropy device may be fed from: the kernel's generator under all its names.
const ENTROPY: [&str; 2] = ["/dev/urandom", "/dev/random"];

/// Reads all of them from a machine's description.
pub(super) fn read(config: &mut Fields) -> VirtioSpec {
    let rng = config.object("rng", read_rng).is_some();
    VirtioSpec { rng, ..VirtioSpec::default() }
}

/// Adds all of them to a machine's description.
pub(super) fn describe(spec: &VirtioSpec, config: &mut Map<String, Value>) {
    if spec.rng {
        config.insert("rng".to_owned(), json!({ "src": ENTROPY[0], "iommu": false }));
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

/// Where a device is on the guest's buses is not for clients to say, and no device is behind a virtual IOMMU.
fn placed_by_us(device: &mut Fields) {
    device.only("iommu", false);
    device.only("pci_segment", 0);
}
