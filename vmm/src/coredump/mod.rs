//! A guest's RAM and registers as an ELF core file, which gdb and crash read: what QEMU's `dump-guest-memory` writes, in
//! its ELF format without paging.
//!
//! The file is as sparse as RAM is: what the guest has never touched takes no room.

mod copy;
mod elf;
mod error;
mod notes;
mod task;

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use memory::GuestRam;
use rustix::process::{Resource, getrlimit};

use crate::hypervisor::vcpu::Registers;

pub use error::CoredumpError;
pub use task::Dumping;

/// What is to be dumped, and where to. The guest must stand still until that is done.
pub struct Coredump {
    /// RAM.
    pub ram: Arc<GuestRam>,
    /// The registers of each vCPU, in their order.
    pub vcpus: Vec<Registers>,
    /// The file, which must not be there yet.
    pub path: PathBuf,
}

impl Coredump {
    /// Writes the file. One that cannot be completed is removed again.
    ///
    /// # Errors
    /// The file is there, cannot be made or written, or `abandoned` has become true.
    pub fn write(&self, abandoned: &AtomicBool) -> Result<(), CoredumpError> {
        let plan = elf::Plan::new(&notes::of(&self.vcpus), self.ram.regions());
        check_limit(plan.size, getrlimit(Resource::Fsize).current)?;
        let file = create(&self.path)?;
        let written = self.fill(&file, &plan, abandoned);
        if written.is_err()
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(%error, path = %self.path.display(), "what there is of the core dump stays");
        }
        written
    }

    fn fill(&self, file: &File, plan: &elf::Plan, abandoned: &AtomicBool) -> Result<(), CoredumpError> {
        let failed = |source| CoredumpError::Write { path: self.path.clone(), size: plan.size, source };
        file.set_len(plan.size).and_then(|()| file.write_all_at(&plan.headers, 0)).map_err(failed)?;
        for segment in &plan.segments {
            copy::data(self.ram.memfd(), &segment.region, file, segment.offset, abandoned).map_err(
                |stop| match stop {
                    copy::Stop::Read(source) => CoredumpError::Read(source),
                    copy::Stop::Write(source) => failed(source),
                    copy::Stop::Abandoned => CoredumpError::Abandoned,
                },
            )?;
        }
        Ok(())
    }
}

/// Makes a file that only our user can read. A symbolic link is a file that is there.
fn create(path: &Path) -> Result<File, CoredumpError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    options.open(path).map_err(|source| match source.kind() {
        ErrorKind::AlreadyExists => CoredumpError::Exists(path.to_owned()),
        _ => CoredumpError::Create { path: path.to_owned(), source },
    })
}

/// Writing past the limit on file sizes would end the process (SIGXFSZ, setrlimit(2)).
fn check_limit(size: u64, limit: Option<u64>) -> Result<(), CoredumpError> {
    match limit {
        Some(limit) if size > limit => Err(CoredumpError::Limit { size, limit }),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "coredump_test.rs"]
mod tests;
