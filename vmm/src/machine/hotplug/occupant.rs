//! What sits in a slot: a function of the host's, or a virtio device.

use std::sync::Arc;

use vfio::PassthroughFunction;

use crate::machine::control::DeviceName;
use crate::virtio::plugged::Plugged;

/// A function in a seat.
#[derive(Clone)]
pub(super) enum Occupant {
    /// The host's.
    Host(Arc<PassthroughFunction>),
    /// A virtio device, of which each run makes a function of its own.
    Virtio(Arc<Plugged>),
}

impl Occupant {
    /// What it is removed by.
    pub(super) fn name(&self) -> DeviceName {
        match self {
            Self::Host(function) => DeviceName::Host(function.host_address()),
            Self::Virtio(device) => DeviceName::Virtio(device.id.clone()),
        }
    }

    /// The host's function, if it is one.
    pub(super) fn host(&self) -> Option<&Arc<PassthroughFunction>> {
        match self {
            Self::Host(function) => Some(function),
            Self::Virtio(_) => None,
        }
    }

    /// The virtio device, if it is one.
    pub(super) fn virtio(&self) -> Option<&Arc<Plugged>> {
        match self {
            Self::Host(_) => None,
            Self::Virtio(device) => Some(device),
        }
    }
}
