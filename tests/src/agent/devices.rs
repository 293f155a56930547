//! Drivers of a lab host: the modules that a distribution's kernel needs for its role, and vfio-pci on the
//! devices that are there to be passed through.

use std::fs;
use std::io;
use std::path::Path;

use super::run;
use crate::host::{NIC, NVME};

/// What the agent's port needs; most kernels have it built in.
const PORT_MODULES: [&str; 2] = ["virtio_pci", "virtio_console"];
/// What a host needs to run `vmm`, before its devices are bound.
const HOST_MODULES: [&str; 8] =
    ["kvm-amd", "kvm-intel", "vfio-pci", "vfio_iommu_type1", "tun", "vhost_net", "vhost_vsock", "virtio-rng"];
/// What drives the devices, had they not been bound by then.
const DRIVER_MODULES: [&str; 2] = ["nvme", "e1000e"];

/// Loads the host's modules, if this kernel comes with modules at all. Which of the two KVM modules suits is
/// for the kernel to say, and any of them may be built in.
pub(super) fn load_host_modules(problems: &mut Vec<String>) {
    if !kernel_has_modules() {
        return;
    }
    for module in PORT_MODULES {
        // Without a port nobody could be told.
        let _ = run("modprobe", &[module]);
    }
    for module in HOST_MODULES {
        // A module of the other vendor's virtualisation refuses to load.
        if let Err(e) = run("modprobe", &[module])
            && !module.starts_with("kvm")
        {
            problems.push(format!("cannot load module {module}: {e}"));
        }
    }
}

/// Loads the drivers of devices that were left to the host; most kernels have them built in, or not at all.
pub(super) fn load_driver_modules() {
    if kernel_has_modules() {
        for module in DRIVER_MODULES {
            let _ = run("modprobe", &[module]);
        }
    }
}

fn kernel_has_modules() -> bool {
    let release = rustix::system::uname();
    Path::new("/lib/modules").join(release.release().to_string_lossy().as_ref()).is_dir()
}

/// Binds the NVMe and the NIC to vfio-pci, as far as the machine has them.
pub(super) fn bind_to_vfio(bus: &Path, problems: &mut Vec<String>) {
    for address in [NVME, NIC] {
        if bus.join("devices").join(address).exists()
            && let Err(e) = bind(bus, address)
        {
            problems.push(format!("cannot bind {address} to vfio-pci: {e}"));
        }
    }
}

fn bind(bus: &Path, address: &str) -> io::Result<()> {
    let device = bus.join("devices").join(address);
    fs::write(device.join("driver_override"), "vfio-pci")?;
    if device.join("driver").exists() {
        fs::write(device.join("driver/unbind"), address)?;
    }
    fs::write(bus.join("drivers_probe"), address)?;
    let driver = fs::read_link(device.join("driver"))?;
    match driver.file_name() {
        Some(name) if name == "vfio-pci" => Ok(()),
        _ => Err(io::Error::other(format!("its driver is {}", driver.display()))),
    }
}
