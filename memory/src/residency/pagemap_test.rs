use super::*;

#[test]
fn entries() {
    assert_eq!(Page::from_entry(0), Page::Absent);
    assert_eq!(Page::from_entry(0x1234), Page::Absent);
    assert_eq!(Page::from_entry(1 << 63), Page::Hidden);
    assert_eq!(Page::from_entry(1 << 63 | 1 << 61 | 1 << 55 | 0x1234), Page::Frame(0x1234));
    // Swapped, and so are pages under migration.
    assert_eq!(Page::from_entry(1 << 62 | 0x1234), Page::Absent);
}

#[test]
fn touched_pages_are_present() {
    let mut buffer = vec![0u8; 64 * 4096];
    let start = (buffer.as_ptr() as u64).next_multiple_of(4096);
    let touched = (start - buffer.as_ptr() as u64) as usize;
    for page in [3, 5] {
        buffer[touched + page * 4096] = 1;
    }
    let mut seen = Vec::new();
    Pagemap::open().unwrap().walk(start, 8 * 4096, |page| seen.push(page)).unwrap();
    assert_eq!(seen.len(), 8);
    assert!(seen[3] != Page::Absent && seen[5] != Page::Absent);
}

#[test]
fn reads_beyond_one_batch_and_not_beyond_the_end() {
    let mut pagemap = Pagemap::open().unwrap();
    let mut pages = 0;
    pagemap.walk(1 << 40, (BATCH * 2 + 3) * 4096, |_| pages += 1).unwrap();
    assert_eq!(pages, BATCH * 2 + 3);
    assert!(pagemap.walk(u64::MAX - 4095, 8192, |_| ()).is_err());
    pagemap.walk(0, 0, |_| unreachable!()).unwrap();
}
