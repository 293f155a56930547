//! Whether a lab host is what it is meant to be: CMA, KVM with nested paging, an IOMMU with each device in a
//! group of its own, both VFIO interfaces.

use crate::host::{Host, HostError, NIC, NVME};

/// Size of the CMA area in a host of the default spec, in KiB.
const CMA_KIB: u64 = 1 << 20;

/// Checks a host of the default spec and gives what is not as asked, one sentence each.
pub(crate) fn check_host(host: &Host) -> Result<Vec<String>, HostError> {
    let mut problems: Vec<String> = host.problems().to_vec();
    let meminfo = read(host, "/proc/meminfo")?;
    match cma_total(&meminfo) {
        Some(CMA_KIB) => {}
        Some(other) => problems.push(format!("CmaTotal is {other} KiB, not {CMA_KIB} KiB")),
        None => problems.push("no CmaTotal in /proc/meminfo".to_owned()),
    }
    for device in ["/dev/kvm", "/dev/vfio/vfio", "/dev/iommu"] {
        if host.errand(&["test", "-c", device], &[]).is_err() {
            problems.push(format!("no {device}"));
        }
    }
    match read(host, "/sys/module/kvm_amd/parameters/npt") {
        Ok(npt) if matches!(npt.trim(), "Y" | "1") => {}
        Ok(npt) => problems.push(format!("nested paging is off (kvm_amd npt={})", npt.trim())),
        Err(_) => problems.push("kvm_amd is not loaded".to_owned()),
    }
    for (name, address) in [("NVMe", NVME), ("NIC", NIC)] {
        let members = group_members(host, address)?;
        match members.as_slice() {
            [] => problems.push(format!("the {name} ({address}) has no IOMMU group")),
            [only] if only == address => {}
            more => problems.push(format!("the {name} shares its IOMMU group: {}", more.join(" "))),
        }
        let driver = format!("/sys/bus/pci/drivers/vfio-pci/{address}");
        if host.errand(&["test", "-e", &driver], &[]).is_err() {
            problems.push(format!("the {name} ({address}) is not bound to vfio-pci"));
        }
    }
    Ok(problems)
}

/// The addresses of all devices in the IOMMU group of the device at `address`; none if it has no group.
pub(crate) fn group_members(host: &Host, address: &str) -> Result<Vec<String>, HostError> {
    let listing = format!("ls /sys/bus/pci/devices/{address}/iommu_group/devices 2>/dev/null || true");
    let members = host.errand(&["sh", "-c", &listing], &[])?;
    Ok(String::from_utf8_lossy(&members).split_whitespace().map(str::to_owned).collect())
}

fn cma_total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("CmaTotal:"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn read(host: &Host, path: &str) -> Result<String, HostError> {
    Ok(String::from_utf8_lossy(&host.get(path)?).into_owned())
}
