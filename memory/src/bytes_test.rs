use super::*;

#[test]
fn exact_in_the_largest_unit_that_divides() {
    assert_eq!(Bytes(0).to_string(), "0 bytes");
    assert_eq!(Bytes(512 * MIB).to_string(), "512 MiB");
    assert_eq!(Bytes(1536 * MIB).to_string(), "1536 MiB");
    assert_eq!(Bytes(12 * TIB).to_string(), "12 TiB");
    assert_eq!(Bytes(4097).to_string(), "4097 bytes");
}

#[test]
fn rounded_when_asked() {
    assert_eq!(format!("{:.1}", Bytes(GIB + 500 * MIB + 1)), "1.5 GiB");
    assert_eq!(format!("{:.1}", Bytes(2 * GIB)), "2 GiB");
    assert_eq!(format!("{:.1}", Bytes(100)), "100 bytes");
}

#[test]
fn flags_can_be_typed_back() {
    assert_eq!(Bytes(62 * GIB).flag(), "62G");
    assert_eq!(Bytes(1536 * MIB).flag(), "1536M");
    assert_eq!(Bytes(17).flag(), "17");
}
