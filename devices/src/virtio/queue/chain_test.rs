use std::fs::File;
use std::os::unix::fs::FileExt;

use memory::layout::AddressLimits;
use memory::persistent::GRANULE;
use memory::{Layout, PersistentMemory};
use rustix::fs::{MemfdFlags, memfd_create};
use vm_memory::VolatileMemory;

use super::*;
use crate::virtio::testing::{BUFFERS, ram};

fn chain(readable: &[(u64, u32)], writable: &[(u64, u32)]) -> Chain {
    let ram = ram();
    let mut chain = Chain::new(&ram);
    readable.iter().for_each(|(address, length)| chain.push(*address, *length, false).unwrap());
    writable.iter().for_each(|(address, length)| chain.push(*address, *length, true).unwrap());
    chain
}

#[test]
fn reads_and_writes_go_from_buffer_to_buffer() {
    let chain = chain(
        &[(BUFFERS, 3), (BUFFERS + 10, 0), (BUFFERS + 100, 2)],
        &[(BUFFERS + 200, 1), (BUFFERS + 300, 9)],
    );
    assert_eq!((chain.readable_bytes(), chain.writable_bytes()), (5, 10));
    let memory = chain.ram.guest_memory();
    memory.write_slice(b"abc", GuestAddress(BUFFERS)).unwrap();
    memory.write_slice(b"de", GuestAddress(BUFFERS + 100)).unwrap();
    let mut reader = chain.reader();
    assert_eq!(reader.array::<4>(), Some(*b"abcd"));
    assert_eq!(reader.remaining(), 1);
    assert_eq!(reader.array::<2>(), None);
    let mut writer = chain.writer();
    writer.write_all(b"0123").unwrap();
    assert_eq!((writer.written(), writer.remaining()), (4, 6));
    assert_eq!(memory.read_obj::<[u8; 3]>(GuestAddress(BUFFERS + 300)).unwrap(), *b"123");
    assert!(writer.write_all(&[0; 7]).is_err(), "more than there is room for");
}

#[test]
fn slices_are_the_memory_itself() {
    let chain = chain(&[(BUFFERS, 3), (BUFFERS + 100, 5)], &[(BUFFERS + 200, 8)]);
    let mut reader = chain.reader();
    let lengths = |slices: &[VolatileSlice]| slices.iter().map(VolatileMemory::len).collect::<Vec<_>>();
    assert_eq!(lengths(&reader.slices(4).unwrap()), [3, 1]);
    assert_eq!(lengths(&reader.slices(100).unwrap()), [4]);
    assert_eq!(reader.remaining(), 0);
    let mut writer = chain.writer();
    writer.slices(6).unwrap().first().unwrap().copy_from(b"zyxwvu");
    assert_eq!(writer.written(), 6);
    assert_eq!(chain.ram.guest_memory().read_obj::<[u8; 2]>(GuestAddress(BUFFERS + 204)).unwrap(), *b"vu");
}

#[test]
fn a_chain_has_an_end() {
    let ram = ram();
    let mut chain = Chain::new(&ram);
    (0..MOST_DESCRIPTORS).for_each(|_| chain.push(BUFFERS, 1, false).unwrap());
    assert!(matches!(chain.push(BUFFERS, 1, false), Err(RingError::TooLong)));
}

#[test]
fn buffers_may_lie_in_persistent_memory() {
    for writable in [true, false] {
        let limits = AddressLimits::cpu_only(40);
        let mut layout = Layout::new(16 << 20, &limits).unwrap();
        layout.add_persistent(&[GRANULE], &limits).unwrap();
        let file = File::from(memfd_create("pmem", MemfdFlags::CLOEXEC).unwrap());
        file.set_len(GRANULE).unwrap();
        file.write_all_at(b"from the file", 0).unwrap();
        let at = layout.persistent[0];
        let file = Arc::new(file);
        let mut ram = GuestRam::new(&layout).unwrap();
        ram.attach(PersistentMemory::map(file.clone(), at, writable).unwrap()).unwrap();
        let mut chain = Chain::new(&Arc::new(ram));
        chain.push(at.start, 4, false).unwrap();
        assert_eq!(chain.reader().array::<4>(), Some(*b"from"));
        let pushed = chain.push(at.start + 4096, 4, true);
        assert_eq!(matches!(pushed, Err(RingError::Buffer { .. })), !writable, "{pushed:?}");
        if writable {
            chain.writer().write_all(b"back").unwrap();
            let mut read = [0; 4];
            file.read_exact_at(&mut read, 4096).unwrap();
            assert_eq!(&read, b"back");
        }
    }
}
