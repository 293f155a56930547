use super::name;

#[test]
fn the_most_specific_name_wins() {
    assert_eq!(name(0x01_0802), "NVMe controller");
    assert_eq!(name(0x01_0801), "non-volatile memory controller");
    assert_eq!(name(0x01_7700), "storage controller");
    assert_eq!(name(0x02_0000), "Ethernet controller");
    assert_eq!(name(0x00_ff00), "unclassified device");
    assert_eq!(name(0xffff_ffff), "device of unknown class");
}
