use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::{AddressLimits, Layout};

const MIB: u64 = 1 << 20;

fn written(guest: u64, bytes: usize) -> GuestRam {
    let layout = Layout::new(guest, &AddressLimits::cpu_only(46)).unwrap();
    let ram = GuestRam::new(&layout).unwrap();
    ram.guest_memory().write_slice(&vec![7; bytes], GuestAddress(MIB)).unwrap();
    ram
}

#[test]
fn whole_pages_go_and_read_as_zeros_and_the_others_stay() {
    let ram = written(16 * MIB, 8 * 4096);
    let before = ram.allocated();
    // The pages at both ends are not wholly inside.
    ram.discard(GuestRange::new(MIB + 100, 6 * 4096)).unwrap();
    assert_eq!(before - ram.allocated(), 5 * 4096);
    let byte = |at: u64| ram.guest_memory().read_obj::<u8>(GuestAddress(at)).unwrap();
    let seen: Vec<u8> = (0..8).map(|page| byte(MIB + page * 4096)).collect();
    assert_eq!(seen, [7, 0, 0, 0, 0, 0, 7, 7]);
    // They can be used again.
    ram.guest_memory().write_obj(9_u8, GuestAddress(MIB + 4096)).unwrap();
    assert_eq!(byte(MIB + 4096), 9);
}

#[test]
fn nothing_goes_of_less_than_a_page() {
    let ram = written(16 * MIB, 2 * 4096);
    let before = ram.allocated();
    ram.discard(GuestRange::new(MIB + 1, 4096)).unwrap();
    ram.discard(GuestRange::new(MIB, 0)).unwrap();
    assert_eq!(ram.allocated(), before);
}

#[test]
fn what_is_not_ram_is_refused_and_nothing_is_done() {
    let ram = written(16 * MIB, 4096);
    let before = ram.allocated();
    for range in [
        GuestRange::new(MIB, 16 * MIB),
        GuestRange::new(16 * MIB, 4096),
        GuestRange::new(0xfee0_0000, 4096),
        GuestRange::new(u64::MAX - 4096, 4096),
    ] {
        assert!(matches!(ram.discard(range), Err(DiscardError::NotRam(it)) if it == range), "{range}");
    }
    assert_eq!(ram.allocated(), before);
}

#[test]
fn ram_above_4_gib_has_its_own_place_in_the_file() {
    let layout = Layout::new(6 << 30, &AddressLimits::cpu_only(46)).unwrap();
    let ram = GuestRam::new(&layout).unwrap();
    let high = GuestAddress(4 << 30);
    ram.guest_memory().write_slice(&[7; 4096], high).unwrap();
    // A page, or more where the host gives huge ones.
    let before = ram.allocated();
    ram.discard(GuestRange::new(high.0, 4096)).unwrap();
    assert_eq!(before - ram.allocated(), 4096);
    assert_eq!(ram.guest_memory().read_obj::<u8>(high).unwrap(), 0);
    // From below the hole to above it is not all RAM.
    let gap = GuestRange::new(1 << 30, 4 << 30);
    assert!(matches!(ram.discard(gap), Err(DiscardError::NotRam(_))));
}
