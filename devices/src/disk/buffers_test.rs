use super::*;
use crate::disk::testing::{DATA, ram};

fn lengths(buffers: &Buffers) -> Vec<usize> {
    buffers.vectors().iter().map(|vector| vector.iov_len).collect()
}

#[test]
fn what_is_not_ram_is_refused() {
    let ram = ram();
    let end = ram.regions().last().unwrap().guest.end();
    for range in [GuestRange::new(end, 1), GuestRange::new(end - 1, 2), GuestRange::new(u64::MAX - 2, 2)] {
        assert!(Buffers::new(&ram, [range]).is_none(), "{range}");
    }
    assert_eq!(Buffers::new(&ram, [GuestRange::new(end - 1, 1)]).unwrap().bytes(), 1);
}

#[test]
fn passing_bytes_passes_pieces() {
    let ram = ram();
    let pieces =
        [GuestRange::new(DATA, 10), GuestRange::new(DATA + 4096, 20), GuestRange::new(DATA + 8192, 30)];
    let mut buffers = Buffers::new(&ram, pieces).unwrap();
    buffers.advance(4);
    assert_eq!((buffers.bytes(), lengths(&buffers)), (56, vec![6, 20, 30]));
    buffers.advance(26);
    assert_eq!((buffers.bytes(), lengths(&buffers)), (30, vec![30]));
    buffers.advance(30);
    assert_eq!((buffers.bytes(), lengths(&buffers)), (0, vec![]));
}

#[test]
fn alignment_is_that_of_every_piece() {
    let ram = ram();
    let aligned = |start, size| Buffers::new(&ram, [GuestRange::new(start, size)]).unwrap().are_aligned(512);
    assert!(aligned(DATA, 512) && aligned(DATA + 512, 1024));
    assert!(!aligned(DATA + 1, 512) && !aligned(DATA, 511));
    let one = Buffers::new(&ram, [GuestRange::new(DATA + 1, 511)]).unwrap();
    assert!(one.are_aligned(1));
}
