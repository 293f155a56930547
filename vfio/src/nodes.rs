//! The device nodes through which either interface is reached, and what keeps them from being used. Nothing stays open.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::holders::OpenNodes;
use crate::preflight::{Candidate, PreflightError};
use crate::release::{RELEASE, when_released};
use crate::session::open_node;
use crate::sysfs::{Host, HostDevice};

impl HostDevice {
    /// Every node below /dev that opens it, its group's included.
    pub(crate) fn nodes(&self, host: &Host) -> Vec<PathBuf> {
        group_node(host, self).into_iter().chain(cdev_node(host, self)).collect()
    }
}

fn group_node(host: &Host, device: &HostDevice) -> Option<PathBuf> {
    Some(host.dev.join("vfio").join(device.group.as_ref()?.id.to_string()))
}

fn cdev_node(host: &Host, device: &HostDevice) -> Option<PathBuf> {
    Some(host.dev.join("vfio/devices").join(device.cdev.as_ref()?))
}

/// Whether this kernel has iommufd for all of them: a question of what exists, not of who may use it.
pub(crate) fn offers_iommufd(host: &Host, candidates: &[Candidate]) -> bool {
    let node = |candidate: &Candidate| cdev_node(host, &candidate.host).is_some_and(|path| path.exists());
    host.dev.join("iommu").exists() && candidates.iter().all(node)
}

/// What is in the way of a container with the groups of devices that are bound to VFIO.
pub(crate) fn container_obstacles(host: &Host, candidates: &[Candidate]) -> Vec<PreflightError> {
    let mut errors = Vec::new();
    let mut seen = Vec::new();
    for Candidate { host: device, .. } in candidates.iter().filter(|candidate| !candidate.held) {
        let Some(path) = group_node(host, device).filter(|_| device.is_bound_to_vfio()) else { continue };
        if seen.contains(&path) {
            continue;
        }
        seen.push(path.clone());
        match open_free(host, &path, device).map(drop) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                errors.push(PreflightError::NoGroupNode { path, address: device.address });
            }
            Err(error) => errors.push(explain(host, path, cdev_node(host, device), error)),
        }
    }
    let path = host.dev.join("vfio/vfio");
    if let Err(error) = open_node(&path) {
        errors.push(match error.kind() {
            io::ErrorKind::NotFound => PreflightError::NoVfio(path),
            _ => explain(host, path, None, error),
        });
    }
    errors
}

/// What is in the way of an iommufd (unless one was `handed` over) with devices that are bound to VFIO.
pub(crate) fn iommufd_obstacles(host: &Host, candidates: &[Candidate], handed: bool) -> Vec<PreflightError> {
    let mut errors = Vec::new();
    for Candidate { host: device, opened, held, .. } in candidates {
        let address = device.address;
        if opened.is_some() || !device.is_bound_to_vfio() {
            continue;
        }
        let Some(path) = cdev_node(host, device) else {
            errors.push(PreflightError::NoCdev(address));
            continue;
        };
        match open_node(&path).map(drop) {
            // A cdev can be opened by many; that it is in use shows in its group, if that may be looked at.
            Ok(()) => {
                let group = group_node(host, device).filter(|_| !held);
                let error = group.as_deref().and_then(|group| open_free(host, group, device).err());
                if let (Some(group), Some(error)) = (group, error.filter(is_busy)) {
                    errors.push(explain(host, group, Some(path), error));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                errors.push(PreflightError::NoCdevNode { path, address });
            }
            Err(error) => errors.push(explain(host, path, None, error)),
        }
    }
    let path = host.dev.join("iommu");
    if let (false, Err(error)) = (handed, open_node(&path)) {
        errors.push(match error.kind() {
            io::ErrorKind::NotFound => PreflightError::NoIommufd(path),
            _ => explain(host, path, None, error),
        });
    }
    errors
}

/// Opens a node of a device, which may first have to be let go by a process that is gone.
fn open_free(host: &Host, path: &Path, device: &HostDevice) -> io::Result<File> {
    let nodes = device.nodes(host);
    let is_held = || OpenNodes::scan(host).of_any(&nodes, None).is_some();
    when_released(path, || open_node(path), |error| is_busy(error) && !is_held(), RELEASE)
}

fn is_busy(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ResourceBusy
}

/// Why `path` cannot be opened. It may be in use through the `other` node as well.
pub(crate) fn explain(
    host: &Host,
    path: PathBuf,
    other: Option<PathBuf>,
    error: io::Error,
) -> PreflightError {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            let owner = match fs::metadata(&path) {
                Ok(meta) => {
                    format!("uid {}, gid {} (mode {:04o})", meta.uid(), meta.gid(), meta.mode() & 0o7777)
                }
                Err(_) => "an unknown owner".into(),
            };
            PreflightError::NoAccess { path, owner }
        }
        io::ErrorKind::ResourceBusy => {
            let nodes: Vec<PathBuf> = other.into_iter().chain([path.clone()]).collect();
            let holders =
                OpenNodes::scan(host).of_any(&nodes, None).unwrap_or_else(|| "another process".into());
            PreflightError::Busy { path, holders }
        }
        _ => PreflightError::Open { path, source: error },
    }
}

#[cfg(test)]
#[path = "nodes_test.rs"]
mod tests;
