//! Memory of ours that direct I/O can reach, whatever the device asks of it.

/// What memory is aligned to: a page, which is enough for every device.
const ALIGNMENT: usize = 4096;

/// Zeroed bytes that begin at a page boundary.
#[derive(Debug)]
pub(super) struct Aligned {
    memory: Vec<u8>,
    start: usize,
    length: usize,
}

impl Aligned {
    /// `length` bytes.
    pub(super) fn new(length: usize) -> Self {
        let memory = vec![0; length + ALIGNMENT];
        let start = memory.as_ptr().align_offset(ALIGNMENT);
        Self { memory, start, length }
    }

    /// The first `most` of them, or all.
    pub(super) fn first(&self, most: u64) -> &[u8] {
        let length = self.at_most(most);
        self.memory.get(self.start..self.start + length).unwrap_or_default()
    }

    /// The same for writing.
    pub(super) fn first_mut(&mut self, most: u64) -> &mut [u8] {
        let length = self.at_most(most);
        self.memory.get_mut(self.start..self.start + length).unwrap_or_default()
    }

    fn at_most(&self, most: u64) -> usize {
        usize::try_from(most).map_or(self.length, |most| most.min(self.length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_at_a_page() {
        let mut memory = Aligned::new(10_000);
        assert_eq!(memory.first(1).as_ptr().addr() % ALIGNMENT, 0);
        assert_eq!(memory.first(u64::MAX).len(), 10_000);
        memory.first_mut(3).fill(7);
        assert_eq!(memory.first(4), [7, 7, 7, 0]);
    }
}
