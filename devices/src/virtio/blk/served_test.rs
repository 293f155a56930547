use super::*;

/// A configuration with so many sectors, and blocks of so many bytes.
fn config(sectors: u64, block: u32) -> Vec<u8> {
    let mut config = vec![0xee; SIZE as usize];
    config[..8].copy_from_slice(&sectors.to_le_bytes());
    config[BLOCK_SIZE].copy_from_slice(&block.to_le_bytes());
    config
}

#[test]
fn the_number_of_queues_is_ours_and_all_else_the_daemons() {
    let mut settled = config(100, 4096);
    settle(&mut settled, 3).unwrap();
    let mut expected = config(100, 4096);
    expected[QUEUES].copy_from_slice(&[3, 0]);
    assert_eq!(settled, expected);
}

#[test]
fn disks_that_cannot_be_are_refused() {
    for (sectors, block) in [(MOST_SECTORS + 1, 512), (u64::MAX, 0), (1, 511), (1, 513), (1, u32::MAX)] {
        assert!(settle(&mut config(sectors, block), 1).is_err(), "{sectors} sectors, blocks of {block}");
    }
    for (sectors, block) in [(MOST_SECTORS, 512), (0, 0), (1, 1 << 31)] {
        assert_eq!(settle(&mut config(sectors, block), 1), Ok(()));
    }
}
