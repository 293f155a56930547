//! `--disk`: images that the guest has as disks.

use std::path::PathBuf;

use devices::disk::{DiskOptions, Format};
use devices::rate::{Limits, Rate};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vmm::virtio::disk::DiskSpec;

use crate::grammar::types::Size;

/// How much of a limit can be used at once where nothing is said: what it allows in a tenth of a second.
const USUAL_BURST: u64 = 10;

/// A disk.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Disk {
    /// Its image: a file or a block device.
    #[schemars(extend("x-value" = "FILE"))]
    pub(crate) path: PathBuf,
    /// The guest cannot write to it.
    #[serde(default)]
    pub(crate) ro: bool,
    /// The image's format, where its name and its content do not tell.
    #[serde(default)]
    pub(crate) format: Option<ImageFormat>,
    /// Read and write past the host's page cache (O_DIRECT).
    #[serde(default)]
    pub(crate) direct: bool,
    /// Allow a qcow2 image to be based on other files, which its header names.
    #[serde(default)]
    pub(crate) backing: bool,
    /// Keep others from the image while it is used.
    #[serde(default = "on")]
    pub(crate) lock: bool,
    /// What the guest reads as its serial number, up to 20 bytes.
    #[serde(default)]
    pub(crate) serial: String,
    /// How many queues it has. One for each vCPU, up to 8, if nothing is said.
    #[serde(default)]
    pub(crate) queues: Option<u16>,
    #[serde(default)]
    pub(crate) rate: DiskRate,
}

/// How much a disk may do, reads and writes together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct DiskRate {
    /// Bytes a second.
    pub(crate) bytes: Option<Size>,
    /// Bytes at once after a while without any. A tenth of a second's, if nothing is said.
    pub(crate) bytes_burst: Option<Size>,
    /// Requests a second.
    pub(crate) ops: Option<u64>,
    /// Requests at once, likewise.
    pub(crate) ops_burst: Option<u64>,
}

/// A format of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ImageFormat {
    Raw,
    Qcow2,
}

fn on() -> bool {
    true
}

impl Disk {
    /// What it means.
    pub(super) fn spec(&self) -> DiskSpec {
        let format = self.format.map(|format| match format {
            ImageFormat::Raw => Format::Raw,
            ImageFormat::Qcow2 => Format::Qcow2,
        });
        let options = DiskOptions {
            path: self.path.clone(),
            format,
            read_only: self.ro,
            direct: self.direct,
            backing: self.backing,
            lock: self.lock,
        };
        let DiskRate { bytes, bytes_burst, ops, ops_burst } = &self.rate;
        let bytes = rate(bytes.map(|size| size.0), bytes_burst.map(|size| size.0));
        let limits = Limits { bytes, operations: rate(*ops, *ops_burst) };
        DiskSpec { options, serial: self.serial.clone(), queues: self.queues, limits }
    }
}

fn rate(per_second: Option<u64>, burst: Option<u64>) -> Option<Rate> {
    per_second.map(|per_second| Rate { per_second, burst: burst.unwrap_or(per_second / USUAL_BURST) })
}

#[cfg(test)]
#[path = "disk_test.rs"]
mod tests;
