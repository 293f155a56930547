//! All about one device.

use memory::bytes::Bytes;
use vfio::sysfs::{Group, Member};

use super::names::Names;
use super::{Entry, table};
use crate::report;

pub(super) fn render(entry: &Entry, names: &Names) -> String {
    let device = &entry.device;
    let mut text = format!("{} {}\n", device.address, table::title(entry, names));
    let mut line = |name: &str, value: &str| text += &format!("  {name:<12} {value}\n");
    line("ID", &format!("{:04x}:{:04x}, class {:06x}", device.vendor, device.device, device.class));
    line("driver", device.driver.as_deref().unwrap_or("none"));
    if let Some(record) = &entry.record {
        line("before bind", record.driver.as_deref().unwrap_or("none"));
    }
    line(
        "IOMMU group",
        &device.group.as_ref().map_or_else(|| "none".to_owned(), |group| members(entry, group)),
    );
    line("NUMA node", &device.numa_node.map_or_else(|| "none".to_owned(), |node| node.to_string()));
    line(
        "reset",
        &if device.reset_methods.is_empty() { "none".to_owned() } else { device.reset_methods.join(", ") },
    );
    let sizes = device.bar_sizes.iter().enumerate().filter(|(_, size)| **size != 0);
    let bars: Vec<String> = sizes.map(|(index, size)| format!("{index}: {}", Bytes(*size))).collect();
    line("BARs", &if bars.is_empty() { "none".to_owned() } else { bars.join(", ") });
    line("passthrough", &entry.verdict());
    if let Some(mark) = &entry.mark {
        line("marked", mark);
    }
    for used in &entry.readiness.uses {
        line("in use", &used.to_string());
    }
    for obstacle in &entry.readiness.obstacles {
        text += &report::text("problem", obstacle);
    }
    text
}

/// `12, with 0000:00:01.1 (snd_hda_intel)`
fn members(entry: &Entry, group: &Group) -> String {
    let name =
        |member: &Member| format!("{} ({})", member.address, member.driver.as_deref().unwrap_or("no driver"));
    let others = group.members.iter().filter(|member| member.address != entry.device.address);
    let others: Vec<String> = others.map(name).collect();
    if others.is_empty() {
        format!("{}, alone", group.id)
    } else {
        format!("{}, with {}", group.id, others.join(", "))
    }
}
