//! The content of the NVMe: bytes that look random and are the same everywhere.

use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

use super::SetupError;
use super::cache::{self, Cache};
use crate::files::{During, FileError};
use crate::tool::announce;

const SIZE: u64 = 64 << 20;
const SEED: u64 = 0x766d_6d2d_6c61_6200;

/// The disk image of the hosts' NVMe, 64 MiB; hosts write to a snapshot of it.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    directory: PathBuf,
}

impl Disk {
    pub(super) fn find(cache: &Cache) -> Option<Disk> {
        cache.find("disk", &Self::key()).map(|directory| Disk { directory })
    }

    pub(super) fn ensure(cache: &Cache) -> Result<Disk, SetupError> {
        if let Some(disk) = Self::find(cache) {
            return Ok(disk);
        }
        announce("writing the NVMe's disk image");
        let directory = cache.place("disk", &Self::key(), "1");
        cache.stage(&directory, |part| {
            let path = part.join("disk.img");
            let mut file = BufWriter::new(File::create(&path).during("create", &path)?);
            let mut random = SplitMix64::seed_from_u64(SEED);
            for _ in 0..SIZE / 8 {
                file.write_all(&random.next_u64().to_le_bytes()).during("write", &path)?;
            }
            file.flush().during("write", &path)?;
            Ok(())
        })?;
        Ok(Disk { directory })
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The image.
    pub(crate) fn image(&self) -> PathBuf {
        self.directory.join("disk.img")
    }

    /// SHA-256 of its first `bytes` bytes, in hexadecimal.
    pub(crate) fn sha256(&self, bytes: u64) -> Result<String, FileError> {
        let path = self.image();
        let mut start = Vec::new();
        fs::File::open(&path)
            .and_then(|file| file.take(bytes).read_to_end(&mut start))
            .during("read", &path)?;
        Ok(Sha256::digest(&start).iter().map(|byte| format!("{byte:02x}")).collect())
    }

    fn key() -> String {
        cache::key(&[b"splitmix64", &SIZE.to_le_bytes(), &SEED.to_le_bytes()])
    }
}

#[cfg(test)]
#[path = "disk_test.rs"]
mod tests;
