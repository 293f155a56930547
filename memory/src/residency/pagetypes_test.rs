use super::*;
use crate::fuzz::{hostile_text, thoroughly};

const REAL: &str = include_str!("../../testdata/pagetypeinfo.txt");

#[test]
fn blocks_that_can_be_pinned_are_counted() {
    let lines = [
        (
            "Node    0, zone    DMA32, type      Movable      1      3      2      1      1      3      3      2      2      3    228 ",
            231,
        ),
        ("Node 1, zone Normal, type Unmovable >100000 0 0 0 0 0 0 0 0 >100000 7", 100_007),
        ("Node 0, zone Normal, type Movable 5 5 5 5 5 5 5 5 5", 0),
        ("Node 0, zone Movable, type Movable 0 0 0 0 0 0 0 0 0 0 31", 0),
        ("Node 0, zone Normal, type CMA 0 0 0 0 0 0 0 0 0 0 31", 0),
        ("Node 0, zone Normal, type Isolate 0 0 0 0 0 0 0 0 0 0 31", 0),
        // How many blocks there are in all.
        (
            "Node 0, zone    DMA32            9          557            0            0            0            0",
            0,
        ),
        ("Free pages count per migrate type at order       0      1      2      3      4      5", 0),
    ];
    for (line, blocks) in lines {
        assert_eq!(parse(line), blocks, "{line}");
    }
    assert!(parse(REAL) > 300);
}

proptest::proptest! {
    #![proptest_config(thoroughly())]
    #[test]
    fn takes_any_text(text in hostile_text(REAL)) {
        proptest::prop_assert!(parse(&text) == 0 || text.contains("type"));
    }
}
