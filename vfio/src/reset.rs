//! Resets, from the mildest that a device has to the one that takes all functions of its bus along.
//!
//! vfio-pci resets a device by itself (FLR, power management, or its bus if nobody else is on it: `reset_method` in
//! sysfs) when it is opened and when it is closed, and for a guest's reboot when asked to. A device without any of these
//! is reset with all that share its slot or bus (`VFIO_DEVICE_PCI_HOT_RESET`), which takes possession of them all: at the
//! start, at each reboot, and by the kernel itself at the end.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use devices::pci::PciAddress;
use miette::Diagnostic;
use tracing::{debug, warn};

use crate::affected::Affected;
use crate::device::Device;
use crate::function::CLASS;
use crate::sys;
use crate::sysfs::Host;

/// A device that could not be reset together with its bus, or did not come back.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum BusResetError {
    /// There is no such reset.
    #[error("{address} cannot be reset, neither by itself nor with its bus")]
    #[diagnostic(help(
        "what a guest leaves in it stays: pass it to guests that trust each other, or power the host off and on"
    ))]
    Impossible {
        /// The device.
        address: PciAddress,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Others would be reset too.
    #[error("{address} cannot be reset without {}, which this machine does not have", list(others))]
    #[diagnostic(help("bind those to vfio-pci (`vmm bind --group {address}`), or pass them through too"))]
    Shared {
        /// The device.
        address: PciAddress,
        /// The functions on its bus that are not ours.
        others: Vec<PciAddress>,
    },
    /// Others that a guest is using would be reset too.
    #[error("{address} cannot be reset without {}, which the guest is using", list(others))]
    #[diagnostic(help("give the machine both when it starts"))]
    InUse {
        /// The device.
        address: PciAddress,
        /// The functions on its bus that are in use.
        others: Vec<PciAddress>,
    },
    /// The kernel would not.
    #[error("cannot reset {address} with its bus")]
    #[diagnostic(help("every function on its bus must be bound to vfio-pci: `vmm bind --group {address}`"))]
    Refused {
        /// The device.
        address: PciAddress,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// It is gone.
    #[error("{0} does not come back from its reset")]
    #[diagnostic(help("it stays bound; see `dmesg`, and power the host off and on"))]
    Silent(PciAddress),
}

fn list(addresses: &[PciAddress]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl Device {
    /// Resets it with all that share its slot or bus, and says which those are. None of them may be `in_use`.
    fn reset_with_bus(&self, in_use: &[PciAddress]) -> Result<Affected, BusResetError> {
        let address = self.address();
        let answer = sys::reset::hot_reset_info(self.file())
            .map_err(|source| BusResetError::Impossible { address, source })?;
        let broken = || BusResetError::Impossible { address, source: io::ErrorKind::InvalidData.into() };
        let affected = Affected::parse(&answer).ok_or_else(broken)?;
        let others: Vec<_> = affected.addresses().filter(|other| in_use.contains(other)).collect();
        if !others.is_empty() {
            return Err(BusResetError::InUse { address, others });
        }
        let attached = self.space().groups();
        let numbers: Vec<u32> = attached.iter().map(|(group, _)| *group).collect();
        let groups = affected.groups(&numbers).map_err(|others| BusResetError::Shared { address, others })?;
        let proof: Vec<_> =
            attached.into_iter().filter(|(group, _)| groups.contains(group)).map(|(_, fd)| fd).collect();
        sys::reset::hot_reset(self.file(), &proof)
            .map_err(|source| BusResetError::Refused { address, source })?;
        Ok(affected)
    }

    /// Whether its configuration space answers.
    fn answers(&self) -> bool {
        let mut class = [0; 4];
        self.config_read(CLASS.into(), &mut class);
        class != [0xff; 4]
    }
}

/// The devices of a machine that are reset with their buses.
#[derive(Default)]
pub(crate) struct BusResets {
    devices: Vec<Arc<Device>>,
}

impl BusResets {
    /// Resets what was not reset when it was opened, and keeps those for which that works. Says what cannot be reset;
    /// that is also what is on one bus with others that are `in_use`.
    pub(crate) fn add(&mut self, devices: &[Arc<Device>], in_use: &[PciAddress]) {
        let host = Host::default();
        let mut done = BTreeSet::new();
        for device in devices {
            let address = device.address();
            if !device.resets_alone() && !done.contains(&address) {
                match device.reset_with_bus(in_use) {
                    Ok(affected) => {
                        debug!(%address, ?affected, "reset with its bus");
                        done.extend(affected.addresses());
                    }
                    Err(error) => {
                        let cause = std::error::Error::source(&error).map(ToString::to_string);
                        warn!(
                            %error, cause,
                            "the device cannot be reset: what it was left with by its last user stays in it, a guest \
                             reboot does not stop its DMA, and the next user finds what this guest leaves"
                        );
                        host.set_mark(
                            address,
                            Some("it cannot be reset, and keeps what its last guest left"),
                        );
                        continue;
                    }
                }
            }
            host.set_mark(address, None);
            if !device.resets_alone() {
                self.devices.push(Arc::clone(device));
            }
        }
    }

    /// Has nothing to do with a device any more.
    pub(crate) fn remove(&mut self, address: PciAddress) {
        self.devices.retain(|device| device.address() != address);
    }

    /// Resets them again.
    pub(crate) fn again(&self) -> Vec<BusResetError> {
        let mut errors = Vec::new();
        let mut done = BTreeSet::new();
        for device in &self.devices {
            if done.contains(&device.address()) {
                continue;
            }
            match device.reset_with_bus(&[]) {
                Ok(affected) => done.extend(affected.addresses()),
                Err(error) => {
                    Host::default().set_mark(device.address(), Some("its last reset failed"));
                    errors.push(error);
                }
            }
        }
        errors
    }
}

/// Those of the devices that do not answer, after resets that were said to have worked.
pub(crate) fn silent(devices: &[Arc<Device>]) -> impl Iterator<Item = BusResetError> {
    let silent = devices.iter().filter(|device| !device.answers()).map(|device| device.address());
    silent.inspect(mark_silent).map(BusResetError::Silent)
}

fn mark_silent(address: &PciAddress) {
    Host::default().set_mark(*address, Some("it did not come back from a reset"));
}

/// Looks at the devices after they were closed, for which the kernel resets them.
#[derive(Default)]
pub(crate) struct Aftermath(Vec<PciAddress>);

impl Aftermath {
    /// There will be another one.
    pub(crate) fn expect(&mut self, address: PciAddress) {
        self.0.push(address);
    }

    /// This one is closed already.
    pub(crate) fn look_at(&mut self, address: PciAddress) {
        self.0.retain(|other| *other != address);
        look_at(address);
    }
}

impl Drop for Aftermath {
    fn drop(&mut self) {
        self.0.iter().copied().for_each(look_at);
    }
}

fn look_at(address: PciAddress) {
    let host = Host::default();
    match host.find(address) {
        Ok(device) if host.answers(&device) => {}
        Ok(_) => {
            warn!(%address, "the device does not come back from its reset; it stays bound, and is marked");
            mark_silent(&address);
        }
        Err(error) => warn!(%address, %error, "the device is gone"),
    }
}
