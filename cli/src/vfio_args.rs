//! `--vfio` and `--iommufd`: which host devices, and how they are reached.

use clap::Args;
use devices::pci::PciAddress;
use miette::Diagnostic;
use thiserror::Error;
use vfio::{Backend, DeviceRequest, Request};
use vmm::{Class, Problems};

#[derive(Debug, Default, Args)]
pub(crate) struct VfioArgs {
    /// Pass a host PCI device through, named by its address alone; or as `fd=N`, its node in /dev/vfio/devices opened
    /// by whoever starts vmm. `backend=iommufd` or `backend=container` insists on one of the kernel's interfaces, `port`
    /// puts the device behind a PCIe root port, where it can be unplugged. May be repeated.
    #[arg(long, value_name = "BDF[,backend=NAME][,port]|fd=N")]
    pub(crate) vfio: Vec<String>,
    /// Use a /dev/iommu opened by whoever starts vmm.
    #[arg(long, value_name = "fd=N", requires = "vfio")]
    pub(crate) iommufd: Option<String>,
}

/// A value that cannot be read.
#[derive(Debug, Error, Diagnostic, PartialEq, Eq)]
enum BadVfio {
    #[error("--vfio `{0}` is not a PCI address")]
    #[diagnostic(help(
        "give SEGMENT:BUS:DEVICE.FUNCTION as `lspci -D` prints it, as in --vfio 0000:01:00.0 or 01:00.0"
    ))]
    Address(String),
    #[error("--vfio `{text}`: `{option}` is not an option")]
    #[diagnostic(help("the options are backend=iommufd, backend=container and port"))]
    Option { text: String, option: String },
    #[error("{flag} `{text}` does not name a file descriptor")]
    #[diagnostic(help("give its number, as in {flag} fd=5"))]
    Descriptor { flag: &'static str, text: String },
    #[error("file descriptor {0} is given twice")]
    #[diagnostic(help("each device and /dev/iommu has a descriptor of its own"))]
    Twice(u32),
}

/// A device as it was typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named {
    Address(PciAddress),
    Descriptor(u32),
}

impl VfioArgs {
    /// What it means; what cannot be read is reported. Takes over the descriptors that are named.
    pub(crate) fn request(&self, problems: &mut Problems) -> Request {
        let mut request = Request::default();
        let mut descriptors = Vec::new();
        for text in &self.vfio {
            let read = problems.keep(Class::Usage, parse(text));
            let Some((named, backend, port)) = read else { continue };
            let device = match named {
                Named::Address(address) => Some(DeviceRequest::at(address)),
                Named::Descriptor(fd) => problems
                    .keep(Class::Usage, once(fd, &mut descriptors))
                    .and_then(|()| problems.keep(Class::Usage, DeviceRequest::handed(fd))),
            };
            if let Some(mut device) = device {
                device.backend = backend;
                device.port = port;
                request.devices.push(device);
            }
        }
        if let Some(text) = &self.iommufd
            && let Some(fd) = problems.keep(Class::Usage, parse_descriptor("--iommufd", text))
            && problems.keep(Class::Usage, once(fd, &mut descriptors)).is_some()
        {
            problems.keep(Class::Usage, request.hand_iommufd(fd));
        }
        request
    }
}

/// A number stands for what was handed over until that is taken over.
fn once(fd: u32, taken: &mut Vec<u32>) -> Result<(), BadVfio> {
    if taken.contains(&fd) {
        return Err(BadVfio::Twice(fd));
    }
    taken.push(fd);
    Ok(())
}

/// Reads `0000:01:00.0`, `01:00.0,backend=iommufd`, `01:00.0,port`, `fd=5`.
fn parse(text: &str) -> Result<(Named, Option<Backend>, bool), BadVfio> {
    let mut items = text.split(',');
    let name = items.next().unwrap_or_default();
    let named = if name.starts_with("fd=") {
        parse_descriptor("--vfio", name).map(Named::Descriptor)?
    } else {
        let address = name.parse().map_err(|_| BadVfio::Address(name.to_owned()))?;
        Named::Address(address)
    };
    let (mut backend, mut port) = (None, false);
    for item in items {
        if item == "port" {
            port = true;
            continue;
        }
        let named = Backend::NAMES.into_iter().find(|(name, _)| item.strip_prefix("backend=") == Some(name));
        let (_, value) =
            named.ok_or_else(|| BadVfio::Option { text: text.to_owned(), option: item.to_owned() })?;
        backend = Some(value);
    }
    Ok((named, backend, port))
}

/// Reads `fd=5`.
fn parse_descriptor(flag: &'static str, text: &str) -> Result<u32, BadVfio> {
    let number = text.strip_prefix("fd=").filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
    let number = number.and_then(|number| number.parse().ok());
    number.ok_or_else(|| BadVfio::Descriptor { flag, text: text.to_owned() })
}

#[cfg(test)]
#[path = "vfio_args_test.rs"]
mod tests;
