use proptest::prelude::*;

use super::*;

const IDS: &str = "\
#\n#\tList of PCI ID's\n\n\
144d  Samsung Electronics Co Ltd\n\
\ta808  NVMe SSD Controller SM981/PM981/PM983\n\
\t\t144d a801  SSD 970 EVO\n\
8086  Intel Corporation\n\
\t10d3  82574L Gigabit Network Connection\n\
zzzz  Nobody\n\
\t0001  of nobody\n\
ffff  Illegal Vendor ID\n\
C 01  Mass storage controller\n\
\t08  Non-Volatile memory controller\n\
\t\t02  NVM Express\n\
C 02  Network controller\n\
\t00  Ethernet controller\n";

#[test]
fn names_are_found() {
    let names = Names::parse(IDS);
    assert_eq!(names.vendor(0x8086), Some("Intel Corporation"));
    assert_eq!(names.device(0x144d, 0xa808), Some("NVMe SSD Controller SM981/PM981/PM983"));
    assert_eq!(names.device(0x8086, 0x10d3), Some("82574L Gigabit Network Connection"));
    // A subsystem, a class and a line that makes no sense are no devices.
    assert_eq!((names.device(0x144d, 0x144d), names.device(0x8086, 1)), (None, None));
    assert_eq!(names.class(0x01_0802), "Non-Volatile memory controller");
    assert_eq!(names.class(0x02_0000), "Ethernet controller");
    assert_eq!(names.class(0x0c_0330), "XHCI USB controller");
}

#[test]
fn without_a_list_there_are_class_names() {
    let names = Names::default();
    assert_eq!((names.vendor(0x8086), names.device(0x8086, 1)), (None, None));
    assert_eq!(names.class(0x01_0802), "NVMe controller");
    assert_eq!(names.class(0xffff_ffff), "device of unknown class");
}

proptest! {
    #[test]
    fn any_list_can_be_read(lines in prop::collection::vec("[\t]{0,3}[0-9a-fC #é]{0,7}[ ]{0,3}[a-z]{0,4}", 0..40)) {
        Names::parse(&lines.join("\n"));
    }
}
