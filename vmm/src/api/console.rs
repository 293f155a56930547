//! A machine's virtio console in the dialect, which knows one port and no names.

use serde_json::{Value, json};

use super::fields::Fields;
use crate::virtio::console::{PortSpec, PortTarget};

pub(super) fn read(console: &mut Fields) -> Vec<PortSpec> {
    console.only("iommu", false);
    let (file, socket) = (console.path("file"), console.path("socket"));
    let mode = console.text("mode");
    let to = match (mode.as_deref(), file, socket) {
        (Some("File"), Some(path), None) => PortTarget::File(path),
        (Some("Socket"), None, Some(path)) => PortTarget::Socket(path),
        (Some("File"), ..) => {
            console.refuse("file", "is to be the path that output is appended to, and the only one");
            return Vec::new();
        }
        (Some("Socket"), ..) => {
            console.refuse("socket", "is to be the path that a client connects to, and the only one");
            return Vec::new();
        }
        (None | Some("Off"), ..) => return Vec::new(),
        (Some(mode), ..) => {
            console.refuse("mode", &format!("cannot be {mode}; Off, File and Socket can be had"));
            return Vec::new();
        }
    };
    vec![PortSpec { name: None, to }]
}

/// The first port that is a console.
pub(super) fn describe(ports: &[PortSpec]) -> Value {
    match ports.iter().find(|port| port.name.is_none()).map(|port| &port.to) {
        None => json!({ "mode": "Off" }),
        Some(PortTarget::File(path)) => json!({ "mode": "File", "file": path }),
        Some(PortTarget::Pty(path)) => json!({ "mode": "Pty", "file": path }),
        Some(PortTarget::Socket(path)) => json!({ "mode": "Socket", "socket": path }),
    }
}
