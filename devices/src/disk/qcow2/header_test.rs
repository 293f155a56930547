use proptest::prelude::*;

use super::*;

const CLUSTER: u64 = 65536;
/// Bytes of the file that [`image`] is the header of.
const FILE: u64 = 8 * CLUSTER;

/// A header as qemu-img makes it, for a disk of 1 GiB.
fn image() -> Vec<u8> {
    let mut head = vec![0; CLUSTER as usize];
    let mut put = |at: usize, bytes: &[u8]| head[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"QFI\xfb");
    put(4, &3_u32.to_be_bytes());
    put(20, &16_u32.to_be_bytes());
    put(24, &(1_u64 << 30).to_be_bytes());
    put(36, &2_u32.to_be_bytes());
    put(40, &(3 * CLUSTER).to_be_bytes());
    put(48, &CLUSTER.to_be_bytes());
    put(56, &1_u32.to_be_bytes());
    put(96, &4_u32.to_be_bytes());
    put(100, &104_u32.to_be_bytes());
    head
}

fn with(at: usize, bytes: &[u8]) -> Result<Header, HeaderError> {
    let mut head = image();
    head[at..at + bytes.len()].copy_from_slice(bytes);
    Header::parse(&head[..HEADER], FILE, true)
}

#[test]
fn a_good_header_is_taken() {
    let header = Header::parse(&image()[..HEADER], FILE, true).unwrap();
    assert_eq!(
        (header.size, header.l1(), header.l2_bytes()),
        (1 << 30, 3 * CLUSTER..3 * CLUSTER + 16, 65536)
    );
    assert_eq!(header.backing(&image()).unwrap(), None);
    assert!(with(4, &2_u32.to_be_bytes()).is_ok());
}

#[test]
fn tables_must_lie_in_the_file() {
    let table = |result: Result<Header, HeaderError>| match result {
        Err(HeaderError::Table { table, .. }) => table,
        other => panic!("{other:?}"),
    };
    assert_eq!(table(with(40, &FILE.to_be_bytes())), "table of tables");
    assert_eq!(table(with(40, &(3 * CLUSTER + 512).to_be_bytes())), "table of tables");
    assert_eq!(table(with(40, &0_u64.to_be_bytes())), "table of tables");
    assert_eq!(table(with(36, &u32::MAX.to_be_bytes())), "table of tables");
    assert_eq!(table(with(48, &(FILE * 2).to_be_bytes())), "reference count table");
    assert_eq!(table(with(56, &u32::MAX.to_be_bytes())), "reference count table");
    assert_eq!(with(48, &(3 * CLUSTER).to_be_bytes()).unwrap_err(), HeaderError::Overlap("table of tables"));
}

#[test]
fn the_header_must_be_counted_as_used() {
    let header = with(96, &4_u32.to_be_bytes()).unwrap();
    assert_eq!(header.first_counts(&(2 * CLUSTER).to_be_bytes()), Ok(2 * CLUSTER));
    for nowhere in [0, 512, CLUSTER + 512, FILE] {
        assert_eq!(header.first_counts(&nowhere.to_be_bytes()), Err(HeaderError::Uncounted), "{nowhere:#x}");
    }
    assert_eq!(header.first_counts(&[]), Err(HeaderError::Uncounted));
    assert_eq!(header.first_refcounts(), CLUSTER..CLUSTER + 8);
    assert!(
        with(56, &0_u32.to_be_bytes()).unwrap().first_refcounts().is_empty(),
        "what follows is not a table"
    );

    let check = |order: u32, counts: [u8; 8]| with(96, &order.to_be_bytes()).unwrap().check_counted(&counts);
    assert_eq!(check(4, [0, 1, 0, 0, 0, 0, 0, 0]), Ok(()));
    assert_eq!(check(4, [0, 0, 0, 1, 0, 0, 0, 0]), Err(HeaderError::Uncounted), "that is the next cluster's");
    assert_eq!((check(0, [1, 0, 0, 0, 0, 0, 0, 0]), check(2, [2, 0, 0, 0, 0, 0, 0, 0])), (Ok(()), Ok(())));
    assert_eq!(check(0, [2, 1, 1, 1, 1, 1, 1, 1]), Err(HeaderError::Uncounted));
    assert_eq!((check(3, [1, 0, 0, 0, 0, 0, 0, 0]), check(6, [0, 0, 0, 0, 0, 0, 0, 1])), (Ok(()), Ok(())));
    assert_eq!(check(6, [0; 8]), Err(HeaderError::Uncounted));
    assert_eq!(
        with(96, &7_u32.to_be_bytes()).unwrap_err(),
        HeaderError::Unsupported("reference counts of more than 64 bits")
    );
}

#[test]
fn sizes_must_be_possible() {
    assert_eq!(with(20, &8_u32.to_be_bytes()).unwrap_err(), HeaderError::ClusterBits(8));
    assert_eq!(with(20, &64_u32.to_be_bytes()).unwrap_err(), HeaderError::ClusterBits(64));
    assert_eq!(with(24, &u64::MAX.to_be_bytes()).unwrap_err(), HeaderError::Size(u64::MAX));
    assert!(matches!(
        with(24, &(1_u64 << 40).to_be_bytes()),
        Err(HeaderError::L1Size { has: 2, needs: 2048, .. })
    ));
    assert_eq!(with(4, &4_u32.to_be_bytes()).unwrap_err(), HeaderError::Version(4));
}

#[test]
fn what_is_not_supported_is_named() {
    let feature = |bit: u64| with(72, &(1_u64 << bit).to_be_bytes()).unwrap_err();
    assert_eq!(feature(0), HeaderError::Dirty);
    assert_eq!(feature(1), HeaderError::Corrupt);
    assert_eq!(feature(2), HeaderError::Unsupported("its data in another file"));
    assert_eq!(feature(4), HeaderError::Unsupported("subclusters (extended L2 entries)"));
    assert_eq!(feature(5), HeaderError::Unsupported("a feature newer than vmm"));
    assert_eq!(with(32, &2_u32.to_be_bytes()).unwrap_err(), HeaderError::Unsupported("encryption"));
    let mut head = image();
    head[79] = 1;
    assert!(Header::parse(&head[..HEADER], FILE, false).is_ok());
}

#[test]
fn the_backing_file_is_named_with_its_format() {
    let mut head = image();
    head[8..16].copy_from_slice(&300_u64.to_be_bytes());
    head[16..20].copy_from_slice(&8_u32.to_be_bytes());
    head[300..308].copy_from_slice(b"base.img");
    let parse = |head: &[u8]| Header::parse(&head[..HEADER], FILE, true).and_then(|h| h.backing(head));
    let name =
        |format: Option<&str>| BackingName { name: "base.img".into(), format: format.map(str::to_owned) };
    assert_eq!(parse(&head).unwrap(), Some(name(None)));
    // An extension that means nothing to us, then the one that does.
    head[104..112].copy_from_slice(&[0, 0, 0, 9, 0, 0, 0, 3]);
    head[120..124].copy_from_slice(&BACKING_FORMAT.to_be_bytes());
    head[124..128].copy_from_slice(&3_u32.to_be_bytes());
    head[128..131].copy_from_slice(b"raw");
    assert_eq!(parse(&head).unwrap(), Some(name(Some("raw"))));
    assert_eq!(parse(&head).unwrap().unwrap().known_format(), Some(Format::Raw));
    head[16..20].copy_from_slice(&1024_u32.to_be_bytes());
    assert_eq!(parse(&head), Err(HeaderError::BackingName));
}

#[test]
fn references_must_lie_in_the_file_and_not_in_tables() {
    let header = Header::parse(&image()[..HEADER], FILE, true).unwrap();
    let entry = |value: u64| value.to_be_bytes();
    let good = [entry((1 << 63) | (4 * CLUSTER)), entry(1), entry((1 << 63) | (FILE - CLUSTER))].concat();
    assert_eq!(header.check_l2(0, &good), Ok(()));
    let truncated = HeaderError::Truncated { guest: CLUSTER, offset: FILE, file: FILE };
    assert_eq!(header.check_l2(0, &[entry(0), entry(FILE)].concat()), Err(truncated));
    let compressed = header.check_l2(0, &entry(COMPRESSED | (FILE + 100)));
    assert!(matches!(compressed, Err(HeaderError::Truncated { .. })));
    for table in [0x200, CLUSTER, 3 * CLUSTER] {
        assert!(matches!(header.check_l2(0, &entry(table)), Err(HeaderError::IntoTable { .. })));
    }
    assert_eq!(header.l2_tables(&entry(4 * CLUSTER)).unwrap(), [(0, 4 * CLUSTER)]);
    assert!(matches!(header.l2_tables(&entry(FILE)), Err(HeaderError::Truncated { .. })));
}

#[test]
fn one_table_cannot_be_read_again_and_again() {
    let mut head = image();
    head[20..24].copy_from_slice(&9_u32.to_be_bytes());
    head[24..32].copy_from_slice(&(1_u64 << 36).to_be_bytes());
    head[36..40].copy_from_slice(&(1_u32 << 21).to_be_bytes());
    let file = 3 * CLUSTER + (16 << 20) + 512;
    let header = Header::parse(&head[..HEADER], file, true).unwrap();
    let l1 = (file - 512).to_be_bytes().repeat(1 << 21);
    assert_eq!(header.l2_tables(&l1), Err(HeaderError::Repeated));
}

proptest! {
    #[test]
    fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..HEADER), file in any::<u64>()) {
        let mut head = b"QFI\xfb\0\0\0\x03".to_vec();
        head.extend(bytes);
        let _ = Header::parse(&head, file >> 1, true);
    }

    #[test]
    fn any_change_of_a_good_header_is_answered(
        changes in prop::collection::vec((0_usize..512, any::<u8>()), 1..8), entry in any::<u64>()
    ) {
        let mut head = image();
        for (at, byte) in changes {
            head[at] = byte;
        }
        if let Ok(header) = Header::parse(&head[..HEADER], FILE, true) {
            let _ = header.backing(&head);
            let _ = header.l2_tables(&entry.to_be_bytes());
            let _ = header.check_l2(0, &entry.to_be_bytes());
        }
    }
}
