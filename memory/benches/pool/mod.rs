//! Huge pages that are set aside for a benchmark, and given back at its end.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use memory::bytes::KIB;

/// For the kernel to give back what was pinned, which it does some time after the ring that pinned it is closed.
const SETTLE: Duration = Duration::from_secs(10);

/// A pool of the host's, as large as was asked for while this lives.
pub(crate) struct Pool {
    size: PathBuf,
    /// Pages it had before.
    before: u64,
}

impl Pool {
    /// Enlarges the pool of pages of `page` bytes until it has `bytes` to give.
    ///
    /// # Errors
    /// It is not to be had; what to type.
    pub(crate) fn with(page: u64, bytes: u64) -> Result<Self, String> {
        let size = PathBuf::from(format!("/sys/kernel/mm/hugepages/hugepages-{}kB/nr_hugepages", page / KIB));
        let need = bytes.div_ceil(page);
        let (Some(before), Some(spare)) = (figure(&size, "nr_hugepages"), spare(&size)) else {
            return Err("the host has no huge pages of this size".to_owned());
        };
        let enough = before + need.saturating_sub(spare);
        let pool = Self { size, before };
        // Whoever is not root is told so below.
        let _ = if enough > before { fs::write(&pool.size, enough.to_string()) } else { Ok(()) };
        match pool.settled(need) {
            Some(spare) if spare >= need => Ok(pool),
            spare => Err(format!(
                "{} of {need} huge pages to be had: as root, echo {enough} > {}",
                spare.unwrap_or_default(),
                pool.size.display()
            )),
        }
    }

    /// What the pool has to give, once that is `need` pages, or when it has had time enough.
    pub(crate) fn settled(&self, need: u64) -> Option<u64> {
        let started = Instant::now();
        loop {
            let spare = spare(&self.size)?;
            if spare >= need || started.elapsed() > SETTLE {
                return Some(spare);
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Pages of a pool that nobody has, nor was promised.
fn spare(size: &Path) -> Option<u64> {
    Some(figure(size, "free_hugepages")?.saturating_sub(figure(size, "resv_hugepages")?))
}

/// What a file beside that of the pool's size says.
fn figure(size: &Path, name: &str) -> Option<u64> {
    fs::read_to_string(size.with_file_name(name)).ok()?.trim().parse().ok()
}

impl Drop for Pool {
    fn drop(&mut self) {
        if figure(&self.size, "nr_hugepages").is_some_and(|now| now > self.before)
            && let Err(error) = fs::write(&self.size, self.before.to_string())
        {
            eprintln!("{} was {}: {error}", self.size.display(), self.before);
        }
    }
}
