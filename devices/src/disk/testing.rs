//! Images and guest memory for tests.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use imago::qcow2::Qcow2;
use imago::{FormatAccess, FormatCreateBuilder, PermissiveImplicitOpenGate, Storage, StorageCreateOptions};
use imago::{FormatDriverBuilder, StorageOpenOptions};
use memory::layout::AddressLimits;
use memory::{GuestRam, GuestRange, Layout};
use tempfile::TempDir;
use vm_memory::{Bytes, GuestAddress};

use super::*;

/// Where data lies in guest memory.
pub(super) const DATA: u64 = 1 << 20;

/// 16 MiB of guest memory.
pub(super) fn ram() -> Arc<GuestRam> {
    let layout = Layout::new(16 << 20, &AddressLimits::cpu_only(40)).unwrap();
    Arc::new(GuestRam::new(&layout).unwrap())
}

/// A directory that goes away, for images.
pub(super) struct Images(TempDir);

impl Images {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A raw image of zeroes.
    pub(super) fn raw(&self, name: &str, size: u64) -> PathBuf {
        let path = self.path(name);
        std::fs::File::create(&path).unwrap().set_len(size).unwrap();
        path
    }

    /// An empty qcow2 image, based on a file of the named format.
    pub(super) fn qcow2(&self, name: &str, size: u64, backing: Option<(&str, &str)>) -> PathBuf {
        let path = self.path(name);
        let file =
            imago::file::File::create_open(StorageCreateOptions::new().filename(&path).overwrite(true));
        let builder = Qcow2::<imago::file::File, FormatAccess<_>>::create_builder(file.unwrap()).size(size);
        let builder = match backing {
            Some((file, format)) => builder.backing(file.to_owned(), format.to_owned()),
            None => builder,
        };
        builder.create().unwrap();
        path
    }
}

/// Reads a qcow2 image as imago does by itself, with all it is based on.
pub(super) fn read_qcow2(path: &Path, offset: u64, length: usize) -> Vec<u8> {
    let image = Qcow2::<imago::file::File>::builder_path(path)
        .storage_open_options(StorageOpenOptions::new())
        .open(PermissiveImplicitOpenGate::default())
        .unwrap();
    let mut bytes = vec![0; length];
    FormatAccess::new(image).read(&mut bytes[..], offset).unwrap();
    bytes
}

/// A disk with an engine and the guest memory it reaches.
pub(super) struct Rig {
    pub(super) disk: Arc<Disk>,
    pub(super) engine: Engine,
    pub(super) ram: Arc<GuestRam>,
}

impl Rig {
    pub(super) fn new(options: &DiskOptions) -> Self {
        let disk = Disk::open(options).unwrap();
        let engine = Engine::new(&disk, 64).unwrap();
        Self { disk, engine, ram: ram() }
    }

    /// Buffers at [`DATA`] and `skew` bytes on, in pieces of these lengths that lie a page apart.
    pub(super) fn buffers(&self, skew: u64, pieces: &[u64]) -> Buffers {
        Buffers::new(&self.ram, ranges(skew, pieces)).unwrap()
    }

    /// Waits for one request.
    pub(super) fn run(&mut self, operation: Operation) -> io::Result<()> {
        self.engine.submit(1, operation).map_err(io::Error::other)?;
        self.engine.kick()?;
        loop {
            if let Some(completion) = self.engine.completed()?.pop() {
                assert_eq!(completion.token, 1);
                return completion.result;
            }
            self.engine.wait();
        }
    }

    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.ram.guest_memory().write_slice(bytes, GuestAddress(DATA)).unwrap();
        let from = self.buffers(0, &[bytes.len() as u64]);
        self.run(Operation::Write { offset, from, durable: false })
    }

    pub(super) fn read(&mut self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let into = self.buffers(0, &[length as u64]);
        self.run(Operation::Read { offset, into })?;
        let mut bytes = vec![0; length];
        self.ram.guest_memory().read_slice(&mut bytes, GuestAddress(DATA)).unwrap();
        Ok(bytes)
    }
}

/// Where pieces lie, each a page or more behind the one before.
pub(super) fn ranges(skew: u64, pieces: &[u64]) -> Vec<GuestRange> {
    let mut at = DATA + skew;
    let place = |&length: &u64| {
        let range = GuestRange::new(at, length);
        at += length.next_multiple_of(4096) + 4096;
        range
    };
    pieces.iter().map(place).collect()
}

use std::io;
