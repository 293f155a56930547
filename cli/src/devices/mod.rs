//! `vmm devices`: the host's PCI devices, and what is between each of them and a guest.

mod detail;
mod json;
mod names;
mod table;

use devices::pci::PciAddress;
use vfio::bind::Record;
use vfio::readiness::Readiness;
use vfio::sysfs::DiscoverError;
use vfio::{Host, HostDevice, OpenNodes, PreflightError};
use vmm::{Class, Problem, Problems};

use crate::args::DevicesArgs;
use crate::report;
use names::Names;

/// Base class of bridges, which nobody passes through.
const BRIDGE: u32 = 0x06;

/// A device and all that is known of it.
struct Entry {
    device: HostDevice,
    readiness: Readiness,
    /// What it was like before it was bound.
    record: Option<Record>,
    /// What is wrong with it since a guest had it.
    mark: Option<String>,
}

/// Lists; returns the exit code.
pub(crate) fn devices(args: &DevicesArgs) -> Result<u8, Problems> {
    let host = Host::default();
    let mut problems = Problems::default();
    let all = args.devices.is_empty();
    let addresses =
        if all { host.addresses().map_err(Problem::of(Class::Host))? } else { args.devices.clone() };
    let open = OpenNodes::scan(&host);
    let mut entries = Vec::new();
    for address in addresses {
        match Entry::find(&host, address, &open) {
            Ok(entry) => entries.push(entry),
            // Pulled out since it was listed.
            Err(DiscoverError::Absent(_)) if all => {}
            Err(error) => problems.add(Class::Host, error),
        }
    }
    let names = Names::of_system();
    let text = if args.json {
        json::render(&entries, &names)
    } else if all {
        entries.retain(|entry| args.all || entry.device.class >> 16 != BRIDGE);
        table::render(&entries, &names)
    } else {
        let texts: Vec<String> = entries.iter().map(|entry| detail::render(entry, &names)).collect();
        texts.join("\n")
    };
    report::print(&text);
    if problems.0.is_empty() { Ok(0) } else { Err(problems) }
}

impl Entry {
    fn find(host: &Host, address: PciAddress, open: &OpenNodes) -> Result<Self, DiscoverError> {
        let device = host.find(address)?;
        let readiness = host.readiness(&device, open);
        let record = host.bind_record(&device);
        let mark = host.mark(&device);
        Ok(Self { device, readiness, record, mark })
    }

    fn is_ready(&self) -> bool {
        self.readiness.obstacles.is_empty()
    }

    /// Whether it can be passed through, or what is in the way, in a few words.
    fn verdict(&self) -> String {
        let Readiness { obstacles, uses } = &self.readiness;
        let mut needs_bind = None;
        let mut use_group = false;
        for obstacle in obstacles {
            match obstacle {
                PreflightError::Silent(_) => return "no: it does not answer".to_owned(),
                PreflightError::Bridge(_) => return "no: a bridge".to_owned(),
                PreflightError::IommuOff(_) => return "no: the IOMMU is off".to_owned(),
                PreflightError::NoGroup(_) => return "no: not behind an IOMMU".to_owned(),
                PreflightError::Busy { holders, .. } => return format!("in use by {holders}"),
                PreflightError::HostDriver { .. } | PreflightError::NoDriver { .. } => needs_bind = Some(()),
                PreflightError::GroupShared { .. } => use_group = true,
                other => return format!("no: {other}"),
            }
        }
        match (uses.split_first(), needs_bind, use_group) {
            (Some((first, [])), ..) => format!("in use: {first}"),
            (Some((first, rest)), ..) => format!("in use: {first}, and {} more", rest.len()),
            (None, _, true) => "after vmm bind --group".to_owned(),
            (None, Some(()), false) => "after vmm bind".to_owned(),
            (None, None, false) => match &self.mark {
                Some(mark) => format!("ready, but {mark}"),
                None => "ready".to_owned(),
            },
        }
    }
}

#[cfg(test)]
#[path = "devices_test.rs"]
mod tests;
