//! Huge pages that are set aside for a benchmark, and given back at its end.

use std::fs;
use std::path::PathBuf;
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
        let directory = PathBuf::from(format!("/sys/kernel/mm/hugepages/hugepages-{}kB", page / KIB));
        let figure =
            |name| -> Option<u64> { fs::read_to_string(directory.join(name)).ok()?.trim().parse().ok() };
        let spare = || Some(figure("free_hugepages")?.saturating_sub(figure("resv_hugepages")?));
        let need = bytes.div_ceil(page);
        let (Some(before), Some(free)) = (figure("nr_hugepages"), spare()) else {
            return Err("the host has no huge pages of this size".to_owned());
        };
        let size = directory.join("nr_hugepages");
        let enough = before + need.saturating_sub(free);
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
}

impl Pool {
    /// What the pool has to give, once that is `need` pages, or when it has had time enough.
    pub(crate) fn settled(&self, need: u64) -> Option<u64> {
        let started = Instant::now();
        loop {
            let spare = self.figure("free_hugepages")?.saturating_sub(self.figure("resv_hugepages")?);
            if spare >= need || started.elapsed() > SETTLE {
                return Some(spare);
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn figure(&self, name: &str) -> Option<u64> {
        fs::read_to_string(self.size.with_file_name(name)).ok()?.trim().parse().ok()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let now = fs::read_to_string(&self.size).ok().and_then(|now| now.trim().parse().ok());
        if now.is_some_and(|now: u64| now > self.before)
            && let Err(error) = fs::write(&self.size, self.before.to_string())
        {
            eprintln!("{} was {}: {error}", self.size.display(), self.before);
        }
    }
}
