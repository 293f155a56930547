//! Whether devices could be passed through, found out by looking only: nothing is opened, so that no start which happens
//! at the same moment is in the way, and no device is reset.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use rustix::fs::{Access, AtFlags, CWD};
use rustix::io::Errno;

use crate::function::CLASS;
use crate::holders::OpenNodes;
use crate::nodes;
use crate::preflight::{self, PreflightError};
use crate::sysfs::{Host, HostDevice};
use crate::usage::Use;

/// What a look at a device gives.
#[derive(Debug)]
pub struct Readiness {
    /// What keeps it from being passed through.
    pub obstacles: Vec<PreflightError>,
    /// What the host would lose with it; empty for a device that the host has given away.
    pub uses: Vec<Use>,
}

impl Host {
    /// Looks at a device. `open` is from [`OpenNodes::scan`], which serves for all devices.
    pub fn readiness(&self, device: &HostDevice, open: &OpenNodes) -> Readiness {
        let asked_for = BTreeSet::from([device.address]);
        let mut obstacles = preflight::standing_obstacles(self, device, &asked_for, &mut BTreeSet::new());
        if !device.is_bound_to_vfio() {
            return Readiness { obstacles, uses: self.uses(device, open) };
        }
        let paths = device.nodes(self);
        let wanted = Access::READ_OK | Access::WRITE_OK;
        let denied = |path: &PathBuf| rustix::fs::accessat(CWD, path, wanted, AtFlags::EACCESS).err();
        // One way to open it is enough.
        if let (Some(path), true) = (paths.first(), paths.iter().all(|path| denied(path).is_some()))
            && let Some(error) = denied(path)
        {
            let (path, address) = (path.clone(), device.address);
            obstacles.push(match error {
                Errno::NOENT => PreflightError::NoGroupNode { path, address },
                _ => nodes::explain(self, path, None, error.into()),
            });
        }
        for path in paths {
            if let Some(holders) = open.of(&path) {
                obstacles.push(PreflightError::Busy { path, holders });
                break;
            }
        }
        Readiness { obstacles, uses: Vec::new() }
    }

    /// Whether configuration space answers. All ones is what a bus gives for a device that is gone.
    pub fn answers(&self, device: &HostDevice) -> bool {
        let mut class = [0; 4];
        let read = File::open(self.device_path(device.address).join("config"))
            .and_then(|config| config.read_exact_at(&mut class, CLASS.into()));
        // Whoever may not read it cannot tell.
        read.is_err() || class != [0xff; 4]
    }
}

#[cfg(test)]
#[path = "readiness_test.rs"]
mod tests;
