use super::*;

#[test]
fn the_partition_leaves_room_for_both_tables() {
    assert_eq!(partition(), "start=2048, size=1044480, type=L, name=root");
}
