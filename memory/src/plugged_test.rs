use super::*;
use crate::bytes::GIB;

const START: u64 = 4 * GIB;

fn memory(blocks: u64) -> PluggedMemory {
    let guest = GuestRange::new(START, blocks * BLOCK);
    PluggedMemory::new(RamRegion { guest, hva: 7 * GIB, offset: 2 * GIB })
}

fn range(first: u64, blocks: u64) -> GuestRange {
    GuestRange::new(START + first * BLOCK, blocks * BLOCK)
}

#[test]
fn blocks_are_plugged_or_not() {
    let memory = memory(70);
    assert_eq!((memory.look(range(0, 70)), memory.size()), (Some(Blocks::Unplugged), 0));
    memory.note(range(60, 10), true);
    assert_eq!((memory.look(range(60, 10)), memory.size()), (Some(Blocks::Plugged), 10 * BLOCK));
    assert_eq!(memory.look(range(59, 2)), Some(Blocks::Mixed));
    memory.note(range(64, 1), false);
    assert_eq!(memory.plugged(range(0, 70)).len(), 9);
    let [first] = memory.plugged(range(50, 11))[..] else { panic!("block 60 is plugged in") };
    let there = Chunk { guest: range(60, 1), hva: 7 * GIB + 60 * BLOCK, offset: 2 * GIB + 60 * BLOCK };
    assert_eq!(first, there);
}

#[test]
fn what_are_not_whole_blocks_of_it_is_nothing() {
    let memory = memory(4);
    for range in [
        range(0, 0),
        range(0, 5),
        range(4, 1),
        GuestRange::new(START - BLOCK, BLOCK),
        GuestRange::new(START + 4096, BLOCK),
        GuestRange::new(START, 4096),
    ] {
        assert_eq!(memory.look(range), None, "{range}");
        memory.note(range, true);
    }
    assert_eq!(memory.size(), 0);
}

#[test]
fn a_block_is_held_apart_from_being_plugged() {
    let memory = memory(4);
    let block = memory.blocks(range(1, 1))[0];
    memory.hold(&block, true);
    assert!(memory.is_held(&block) && memory.size() == 0);
    memory.hold(&block, false);
    assert!(!memory.is_held(&block));
}
