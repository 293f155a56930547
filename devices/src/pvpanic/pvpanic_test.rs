use super::*;

#[test]
fn a_panic_is_told_by_its_bit_and_nothing_else_is() {
    let function = Pvpanic::new().unwrap();
    let mut data = [0xaa; 2];
    function.bar_read(0, 0, &mut data);
    assert_eq!(data, [3, 0]);
    for (offset, written, told) in [
        (0, &[PANICKED][..], Action::Panicked),
        (0, &[3], Action::Panicked),
        (0, &[1, 0, 0, 0], Action::Panicked),
        (0, &[CRASH_LOADED], Action::None),
        (0, &[0xfc], Action::None),
        (1, &[1], Action::None),
        (0, &[], Action::None),
    ] {
        assert_eq!(function.bar_write(0, offset, written), told, "{offset} {written:?}");
    }
}

#[test]
fn drivers_find_it_by_the_ids_that_qemu_has() {
    let function = Pvpanic::new().unwrap();
    let mut ids = [0; 4];
    function.config_read(0, &mut ids);
    assert_eq!(ids, [0x36, 0x1b, 0x11, 0]);
    assert_eq!(function.bars().iter().map(|bar| bar.size).collect::<Vec<_>>(), [0x1000]);
}
