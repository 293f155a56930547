//! What can be in the way of plugging a device in or out, in words.

use std::time::Duration;

use devices::pci::{PciAddress, SlotState};
use memory::GuestRange;
use miette::Diagnostic;
use thiserror::Error;

use crate::machine::control::DeviceName;

/// Why a device was not plugged in or out.
#[derive(Debug, Error, Diagnostic)]
pub(super) enum HotPlugError {
    /// Every slot is taken.
    #[error("no root port of the machine is free")]
    #[diagnostic(help("start it with a higher --pcie-ports, or unplug a device first"))]
    NoPort,
    /// It is there.
    #[error("{0} is passed through already")]
    Present(PciAddress),
    /// It is not there.
    #[error("{0} is not a device of this machine")]
    Absent(DeviceName),
    /// It is not behind a root port.
    #[error("{0} cannot be unplugged: it is on the guest's bus 0, where nothing comes or goes")]
    #[diagnostic(help("give it a root port when the machine starts: --vfio {0},port"))]
    Fixed(DeviceName),
    /// Somebody else is at it.
    #[error("{0} is being unplugged")]
    Leaving(DeviceName),
    /// One slot takes one device.
    #[error("{} functions of different devices do not go into one slot", .0.len())]
    #[diagnostic(help("plug them in one after another"))]
    SeveralDevices(Vec<PciAddress>),
    /// The guest does not let go of it.
    #[error("the guest did not let go of {name} within {} s: {}", patience.as_secs(), reason(state))]
    #[diagnostic(help("{}", remedy(state)))]
    Kept {
        /// The device.
        name: DeviceName,
        /// How long it had.
        patience: Duration,
        /// How far it got.
        state: SlotState,
    },
    /// Memory that the device could not reach.
    #[error("the IOMMU of the device cannot map guest memory {0}")]
    #[diagnostic(help(
        "start the machine with the device, so that memory is laid out where it can be mapped"
    ))]
    Unreachable(GuestRange),
    /// The machine is gone.
    #[error("the machine has ended")]
    Over,
}

fn reason(state: &SlotState) -> &'static str {
    match state {
        SlotState { powered: false, .. } => "it has switched the slot off, but does not say that it is done",
        SlotState { blinking: true, .. } => "it is at it, but not done",
        SlotState { listening: false, .. } => "it does not listen to the slot",
        SlotState { .. } => "it was told and did nothing",
    }
}

fn remedy(state: &SlotState) -> &'static str {
    match state {
        SlotState { listening: false, powered: true, .. } => {
            "wait until the guest has booted; its kernel needs PCIe native hot-plug (CONFIG_HOTPLUG_PCI_PCIE)"
        }
        _ => {
            "see the guest's console: the device may be in use there. Ask again: what it is done with comes at once"
        }
    }
}
