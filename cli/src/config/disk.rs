//! `--disk`: images that the guest has as disks.

use std::path::PathBuf;

use devices::disk::{DiskOptions, Format};
use miette::Diagnostic;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use vmm::virtio::disk::DiskSpec;
use vmm::virtio::served::ServedDisk;
use vmm::{Class, Problems};

use super::rate::RateLimits;

/// A disk.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct Disk {
    /// Its image: a file or a block device.
    #[schemars(extend("x-value" = "FILE"))]
    pub(crate) path: Option<PathBuf>,
    /// Instead of an image, the Unix socket of a vhost-user daemon that serves the disk. Goes with `queues` alone.
    #[schemars(extend("x-value" = "PATH"))]
    pub(crate) vhost_user: Option<PathBuf>,
    /// The guest cannot write to it.
    pub(crate) ro: bool,
    /// The image's format, where its name and its content do not tell.
    pub(crate) format: Option<ImageFormat>,
    /// Read and write past the host's page cache (O_DIRECT).
    pub(crate) direct: bool,
    /// Allow a qcow2 image to be based on other files, which its header names.
    pub(crate) backing: bool,
    /// Keep others from the image while it is used.
    pub(crate) lock: bool,
    /// What the guest reads as its serial number, up to 20 bytes.
    pub(crate) serial: String,
    /// How many queues it has. One for each vCPU, up to 8, if nothing is said.
    pub(crate) queues: Option<u16>,
    /// Offer packed rings besides split ones.
    pub(crate) packed: bool,
    /// How much it may do, reads and writes together.
    pub(crate) rate: RateLimits,
}

impl Default for Disk {
    fn default() -> Self {
        Self {
            path: None,
            vhost_user: None,
            ro: false,
            format: None,
            direct: false,
            backing: false,
            lock: true,
            serial: String::new(),
            queues: None,
            packed: false,
            rate: RateLimits::default(),
        }
    }
}

/// A format of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ImageFormat {
    Raw,
    Qcow2,
}

/// Options that make no sense together.
#[derive(Debug, Error, Diagnostic, PartialEq, Eq)]
enum DiskError {
    #[error("--disk does not say which image")]
    #[diagnostic(help(
        "give its path, as in --disk root.img, or a daemon's socket, as in --disk vhost-user=/run/disk.sock"
    ))]
    NoImage,
    #[error("--disk vhost-user={} goes with `queues` alone", .0.display())]
    #[diagnostic(help("image, format, limits and all else are for the daemon to say"))]
    Daemons(PathBuf),
}

impl Disk {
    /// What it means if a daemon serves it; what makes no sense is reported.
    pub(super) fn served(&self, problems: &mut Problems) -> Option<ServedDisk> {
        let socket = self.vhost_user.clone()?;
        let queues = self.queues;
        let alone = Self { vhost_user: Some(socket.clone()), queues, ..Self::default() };
        if *self != alone {
            problems.add(Class::Usage, DiskError::Daemons(socket));
            return None;
        }
        Some(ServedDisk { socket, queues: queues.unwrap_or(1) })
    }

    /// What it means if it has an image.
    pub(super) fn spec(&self, problems: &mut Problems) -> Option<DiskSpec> {
        if self.vhost_user.is_some() {
            return None;
        }
        let path = problems.keep(Class::Usage, self.path.clone().ok_or(DiskError::NoImage))?;
        let format = self.format.map(|format| match format {
            ImageFormat::Raw => Format::Raw,
            ImageFormat::Qcow2 => Format::Qcow2,
        });
        let options = DiskOptions {
            path,
            format,
            read_only: self.ro,
            direct: self.direct,
            backing: self.backing,
            lock: self.lock,
        };
        let limits = self.rate.limits("--disk rate", problems);
        let Self { serial, queues, packed, .. } = self.clone();
        Some(DiskSpec { id: None, options, serial, queues, packed, limits })
    }
}

#[cfg(test)]
#[path = "disk_test.rs"]
mod tests;
