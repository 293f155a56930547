//! A pattern that tells every page of guest memory from every other, written and checked through the memfd.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use memory::{GuestRam, PAGE_SIZE};

/// Pages written and read at a time.
const BATCH: u64 = 512;

/// Fills all memory.
pub(super) fn fill(ram: &GuestRam) -> io::Result<()> {
    each_batch(ram, |file, offset, pages| file.write_all_at(&expected(offset, pages), offset))
}

/// How many pages are not as [`fill`] left them.
pub(super) fn changed(ram: &GuestRam) -> io::Result<u64> {
    let mut changed = 0;
    each_batch(ram, |file, offset, pages| {
        let expected = expected(offset, pages);
        let mut found = vec![0; expected.len()];
        file.read_exact_at(&mut found, offset)?;
        let page = PAGE_SIZE as usize;
        changed += found.chunks(page).zip(expected.chunks(page)).filter(|(a, b)| a != b).count() as u64;
        Ok(())
    })?;
    Ok(changed)
}

fn each_batch(ram: &GuestRam, mut work: impl FnMut(&File, u64, u64) -> io::Result<()>) -> io::Result<()> {
    let file = File::from(ram.memfd().try_clone_to_owned()?);
    for chunk in ram.chunks(BATCH * PAGE_SIZE) {
        work(&file, chunk.offset, chunk.guest.size / PAGE_SIZE)?;
    }
    Ok(())
}

/// Each 64-bit word is a mix of its own offset, so pages that change places or lose a part are noticed.
fn expected(offset: u64, pages: u64) -> Vec<u8> {
    let words = (offset..offset + pages * PAGE_SIZE).step_by(8);
    words.flat_map(|at| (at | 1).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_ne_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use memory::{AddressLimits, Layout};

    use super::*;

    #[test]
    fn what_changes_is_counted() {
        let ram = GuestRam::new(&Layout::new(32 << 20, &AddressLimits::cpu_only(46)).unwrap()).unwrap();
        fill(&ram).unwrap();
        assert_eq!(changed(&ram).unwrap(), 0);
        let file = File::from(ram.memfd().try_clone_to_owned().unwrap());
        file.write_all_at(&[0], 5 * PAGE_SIZE + 77).unwrap();
        file.write_all_at(&[0; 2], 9 * PAGE_SIZE - 1).unwrap();
        assert_eq!(changed(&ram).unwrap(), 3);
    }
}
