use proptest::prelude::*;

use super::*;

/// An answer of the kernel's.
fn answer(flags: u32, count: u32, functions: &[(u32, u16, u8, u8)]) -> Vec<u8> {
    let mut bytes: Vec<u8> = [2060, flags, count].into_iter().flat_map(u32::to_ne_bytes).collect();
    for (number, segment, bus, devfn) in functions {
        bytes.extend(number.to_ne_bytes());
        bytes.extend(segment.to_ne_bytes());
        bytes.extend([*bus, *devfn]);
    }
    bytes.resize(2060, 0);
    bytes
}

fn addresses(texts: &[&str]) -> Vec<PciAddress> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn all_groups_must_be_ours() {
    let affected =
        Affected::parse(&answer(0, 3, &[(12, 0, 1, 0), (12, 0, 1, 0x11), (13, 1, 2, 0xff)])).unwrap();
    let all = addresses(&["01:00.0", "01:02.1", "0001:02:1f.7"]);
    assert_eq!(affected.addresses().collect::<Vec<_>>(), all);
    assert_eq!(affected.groups(&[13, 14, 12]), Ok(vec![12, 13]));
    assert_eq!(affected.groups(&[12]), Err(all[2..].to_vec()));
    assert_eq!(affected.groups(&[]), Err(all));
}

#[test]
fn an_iommufd_knows_what_is_ours() {
    let by_id = VFIO_PCI_HOT_RESET_FLAG_DEV_ID;
    // Open, and owned without being open.
    let affected = Affected::parse(&answer(by_id | 2, 2, &[(7, 0, 1, 0), (0, 0, 1, 8)])).unwrap();
    assert_eq!(affected.groups(&[]), Ok(vec![]));
    let affected = Affected::parse(&answer(by_id, 2, &[(7, 0, 1, 0), (NOT_OWNED, 0, 1, 8)])).unwrap();
    assert_eq!(affected.groups(&[7]), Err(addresses(&["01:01.0"])));
}

#[test]
fn broken_promises_are_not_believed() {
    assert_eq!(Affected::parse(&answer(0, 257, &[])), None);
    assert_eq!(Affected::parse(&answer(0, u32::MAX, &[])), None);
    assert_eq!(Affected::parse(&[0; 11]), None);
    assert_eq!(Affected::parse(&answer(0, 0, &[])).unwrap().groups(&[]), Ok(vec![]));
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), groups: Vec<u32>) {
        if let Some(affected) = Affected::parse(&bytes) {
            let _ = affected.groups(&groups);
            prop_assert!(affected.addresses().count() * 8 <= bytes.len());
        }
    }
}
