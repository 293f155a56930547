use super::*;

const TIB: u64 = 1 << 40;

#[test]
fn a_region_is_one_slot_unless_kvm_takes_none_that_large() {
    let of = |size| slots(GuestRange::new(4 << 30, size), 0x7000_0000_0000, false);
    let cut = |size| of(size).map(|slot| (slot.gpa, slot.size, slot.hva)).collect::<Vec<_>>();
    assert_eq!(cut(TIB), [(4 << 30, TIB, 0x7000_0000_0000)]);
    assert_eq!(cut(4 * TIB).len(), 1);
    assert_eq!(
        cut(9 * TIB + 4096),
        [
            (4 << 30, 4 * TIB, 0x7000_0000_0000),
            ((4 << 30) + 4 * TIB, 4 * TIB, 0x7400_0000_0000),
            ((4 << 30) + 8 * TIB, TIB + 4096, 0x7800_0000_0000),
        ]
    );
}
