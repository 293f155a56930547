//! A look at the host as a whole: what it has for passing devices through, and which devices could be. As [`crate::readiness`]
//! it opens no device, so it is in nobody's way.
//!
//! IOMMUs are those of `/sys/class/iommu` (Documentation/ABI/testing/sysfs-class-iommu, -intel-iommu). Whether they remap
//! interrupts shows in the names of the interrupts' chips (`IR-IO-APIC` in /proc/interrupts).

use std::collections::BTreeSet;
use std::path::Path;

use crate::holders::OpenNodes;
use crate::nodes;
use crate::preflight::PreflightError;
use crate::readiness::Readiness;
use crate::sysfs::{DiscoverError, Host, HostDevice, entries};
use crate::text;

/// Maximum guest address width less one, in an Intel IOMMU's capability register (VT-d 5.0, 11.4.2).
const MGAW_SHIFT: u32 = 16;
const MGAW_MASK: u64 = 0x3f;
/// What the firmware describes IOMMUs in: Intel's, AMD's.
const TABLES: [&str; 2] = ["DMAR", "IVRS"];

/// What a host has for passthrough.
#[derive(Debug)]
pub struct Survey {
    /// Its IOMMUs.
    pub iommus: Vec<Iommu>,
    /// The firmware's table of IOMMUs, `DMAR` or `IVRS`, if there is one.
    pub table: Option<&'static str>,
    /// How many IOMMU groups there are; none if no IOMMU is on.
    pub groups: usize,
    /// Whether the IOMMUs remap interrupts.
    pub remaps_interrupts: bool,
    /// Whether VFIO is told to do without that.
    pub allows_unsafe_interrupts: bool,
    /// Whether the vfio-pci driver is loaded.
    pub has_vfio_pci: bool,
    /// What is in the way of containers.
    pub container: Vec<PreflightError>,
    /// What is in the way of iommufd.
    pub iommufd: Vec<PreflightError>,
    /// Whether devices have nodes of their own, without which an iommufd is of no use. They are there once one is bound.
    pub has_cdevs: bool,
    /// Devices that are bound to VFIO, or could be: bridges and what the host uses are left out.
    pub devices: Vec<Candidate>,
}

/// An IOMMU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Iommu {
    /// The kernel's name for it, as `dmar0`.
    pub name: String,
    /// Width of the addresses it translates, if it says so.
    pub address_bits: Option<u8>,
}

/// A device that is, or could be, passed through.
#[derive(Debug)]
pub struct Candidate {
    /// The device.
    pub device: HostDevice,
    /// What is in its way.
    pub obstacles: Vec<PreflightError>,
}

impl Iommu {
    /// Whose it is.
    pub fn kind(&self) -> &'static str {
        match self.name.trim_end_matches(|c: char| c.is_ascii_digit()) {
            "dmar" => "Intel VT-d",
            "ivhd" => "AMD-Vi",
            _ => "IOMMU",
        }
    }
}

impl Candidate {
    /// Whether it is one `vmm bind` away from a guest.
    pub fn could_be_bound(&self) -> bool {
        let driver_alone = |error: &PreflightError| {
            matches!(error, PreflightError::HostDriver { .. } | PreflightError::NoDriver { .. })
        };
        !self.device.is_bound_to_vfio() && self.obstacles.iter().all(driver_alone)
    }
}

impl Host {
    /// Looks at everything.
    ///
    /// # Errors
    /// There is no PCI in sysfs, or it says what it never should.
    pub fn survey(&self) -> Result<Survey, DiscoverError> {
        let open = OpenNodes::scan(self);
        let mut devices = Vec::new();
        for address in self.addresses()? {
            let device = match self.find(address) {
                Ok(device) => device,
                // Pulled out since it was listed.
                Err(DiscoverError::Absent(_)) => continue,
                Err(error) => return Err(error),
            };
            let Readiness { obstacles, uses } = self.readiness(&device, &open);
            if uses.is_empty() && !device.is_bridge() {
                devices.push(Candidate { device, obstacles });
            }
        }
        let table = |name: &&str| self.sys.join("firmware/acpi/tables").join(name).exists();
        let module =
            |name: &str| self.sys.join("module").join(name).join("parameters/allow_unsafe_interrupts");
        Ok(Survey {
            iommus: self.iommus(),
            table: TABLES.into_iter().find(table),
            groups: entries(&self.sys.join("kernel/iommu_groups")).len(),
            remaps_interrupts: remaps(&text::read_or_empty(&self.proc.join("interrupts"))),
            allows_unsafe_interrupts: ["vfio_iommu_type1", "iommufd"]
                .into_iter()
                .any(|name| is_on(&module(name))),
            has_vfio_pci: self.has_vfio_pci(),
            container: nodes::container_obstacles(self, &[]),
            iommufd: nodes::iommufd_obstacles(self, &[], false),
            has_cdevs: !entries(&self.dev.join("vfio/devices")).is_empty(),
            devices,
        })
    }

    fn iommus(&self) -> Vec<Iommu> {
        let class = self.sys.join("class/iommu");
        let names: BTreeSet<String> = entries(&class).into_iter().collect();
        let iommu = |name: String| {
            let capabilities = text::read(&class.join(&name).join("intel-iommu/cap")).ok();
            Iommu { address_bits: capabilities.and_then(|text| address_bits(&text)), name }
        };
        names.into_iter().map(iommu).collect()
    }
}

/// From an Intel IOMMU's capabilities, `d2008c222f0686` in hexadecimal digits.
fn address_bits(capabilities: &str) -> Option<u8> {
    let capabilities = u64::from_str_radix(capabilities.trim(), 16).ok()?;
    Some((capabilities >> MGAW_SHIFT & MGAW_MASK) as u8 + 1)
}

/// `  4:  0  0  IR-IO-APIC   4-edge  ttyS0`
fn remaps(interrupts: &str) -> bool {
    interrupts.lines().any(|line| line.split_whitespace().any(|word| word.starts_with("IR-")))
}

fn is_on(parameter: &Path) -> bool {
    matches!(text::read_or_empty(parameter).trim(), "Y" | "1")
}

#[cfg(test)]
#[path = "survey_test.rs"]
mod tests;
