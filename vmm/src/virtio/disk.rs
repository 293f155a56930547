//! Disks that are asked for, and their images.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use devices::disk::{Disk, DiskError, DiskOptions};
use devices::rate::Limits;
use devices::virtio::blk::{Blk, BlkOptions, MOST_QUEUES, SERIAL};
use miette::Diagnostic;
use thiserror::Error;

use crate::problem::{Class, Problems};

/// Queues of a disk that does not say, at most: more keep no host device busier.
const USUAL_QUEUES: u16 = 8;

/// What a disk is called where it has no name of its own, with its number from 0 on.
const ID: &str = "_disk";

/// A disk.
#[derive(Clone, Debug)]
pub struct DiskSpec {
    /// What it is called. `None`: its number has a name.
    pub id: Option<String>,
    /// Its image, and how it is used.
    pub options: DiskOptions,
    /// What the guest reads as its serial number.
    pub serial: String,
    /// Its queues. `None`: one for each vCPU, up to eight.
    pub queues: Option<u16>,
    /// Whether it offers packed rings as well.
    pub packed: bool,
    /// How much it may do.
    pub limits: Limits,
}

impl DiskSpec {
    /// The usual disk.
    pub fn new(options: DiskOptions) -> Self {
        Self {
            id: None,
            options,
            serial: String::new(),
            queues: None,
            packed: false,
            limits: Limits::default(),
        }
    }

    /// What it is called as the disk with this number.
    pub(crate) fn name(&self, number: usize) -> String {
        self.id.clone().unwrap_or_else(|| id(number))
    }
}

/// What is wrong with disks before their images are looked at.
#[derive(Debug, Error, Diagnostic, PartialEq, Eq)]
pub enum DiskSpecError {
    /// A serial number that no driver could read.
    #[error("the serial number `{0}` of a disk is not 1 to {SERIAL} printable ASCII characters")]
    #[diagnostic(help("give a shorter one, or none"))]
    Serial(String),
    /// No queue, or too many.
    #[error("the disk {} is to have {queues} queues, a disk has 1 to {MOST_QUEUES}", path.display())]
    #[diagnostic(help("leave `queues` out: one for each vCPU serves best"))]
    Queues {
        /// Its image.
        path: PathBuf,
        /// What was asked for.
        queues: u16,
    },
    /// A limit that lets nothing through.
    #[error("the disk {} is limited to nothing", path.display())]
    #[diagnostic(help("leave the limit out, or give one above 0"))]
    NoRate {
        /// Its image.
        path: PathBuf,
    },
    /// One image for two disks, not both read-only.
    #[error("the disk image {} is given twice", .0.display())]
    #[diagnostic(help("give each disk an image of its own, or add `ro` to both"))]
    Twice(PathBuf),
}

/// Opens the images; what is wrong is reported.
pub(super) fn open(disks: &[DiskSpec], cpus: u32, problems: &mut Problems) -> Vec<Arc<Blk>> {
    let mut opened = Vec::new();
    for (index, disk) in disks.iter().enumerate() {
        let mut sensible = true;
        for error in check(disk, disks.get(..index).unwrap_or_default()) {
            // A second writer would only find that the first has a lock.
            sensible &= !matches!(error, DiskSpecError::Twice(_));
            problems.add(Class::Usage, error);
        }
        if !sensible {
            continue;
        }
        match Disk::open(&disk.options) {
            Ok(image) => {
                let usual = u16::try_from(cpus).unwrap_or(USUAL_QUEUES).clamp(1, USUAL_QUEUES);
                let queues = disk.queues.unwrap_or(usual);
                let (serial, packed, limits) = (disk.serial.clone(), disk.packed, disk.limits);
                let options = BlkOptions { serial, queues, packed, limits };
                opened.push(Arc::new(Blk::new(image, options)));
            }
            Err(error) => problems.add(class(&error), error),
        }
    }
    opened
}

/// What the disk with this number is called that has no name of its own.
pub(crate) fn id(number: usize) -> String {
    format!("{ID}{number}")
}

/// The disk `id`, which is its name, or the path of its image as it was given.
pub(crate) fn find(disks: &[(String, Arc<Blk>)], id: &str) -> Option<Arc<Blk>> {
    let by_path = || disks.iter().find(|(_, disk)| disk.disk().path() == Path::new(id));
    let found = disks.iter().find(|(name, _)| name == id).or_else(by_path);
    found.map(|(_, disk)| disk.clone())
}

fn class(error: &DiskError) -> Class {
    match error {
        DiskError::Locked { .. } | DiskError::Unlockable { .. } | DiskError::Examine { .. } => Class::Host,
        DiskError::Backing { source, .. } => class(source),
        _ => Class::Usage,
    }
}

fn check(disk: &DiskSpec, before: &[DiskSpec]) -> Vec<DiskSpecError> {
    let mut errors = Vec::new();
    let path = || disk.options.path.clone();
    if disk.serial.len() > SERIAL || !disk.serial.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
    {
        errors.push(DiskSpecError::Serial(disk.serial.clone()));
    }
    if let Some(queues) = disk.queues.filter(|queues| !(1..=MOST_QUEUES).contains(queues)) {
        errors.push(DiskSpecError::Queues { path: path(), queues });
    }
    let limits = [disk.limits.bytes, disk.limits.operations];
    if limits.iter().flatten().any(|rate| rate.per_second == 0) {
        errors.push(DiskSpecError::NoRate { path: path() });
    }
    let same = |other: &&DiskSpec| is_same(&other.options.path, &disk.options.path);
    let both_read = |other: &DiskSpec| other.options.read_only && disk.options.read_only;
    if before.iter().find(same).is_some_and(|other| !both_read(other)) {
        errors.push(DiskSpecError::Twice(path()));
    }
    errors
}

/// Whether both are one file, as far as their paths tell.
pub(super) fn is_same(one: &Path, other: &Path) -> bool {
    let canonical = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    canonical(one) == canonical(other)
}

#[cfg(test)]
#[path = "disk_test.rs"]
mod tests;
