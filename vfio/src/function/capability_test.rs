use proptest::prelude::*;

use super::*;
use crate::function::fixture::{Config, e1000e, nvme};

fn ids(capabilities: &[Capability]) -> Vec<(u16, u16, u16)> {
    capabilities.iter().map(|capability| (capability.offset, capability.id, capability.size)).collect()
}

#[test]
fn walks_the_lists_of_an_ssd() {
    let config = nvme().0;
    assert_eq!(ids(&standard(&config)), [(0x40, 1, 8), (0x50, 5, 14), (0x70, 0x10, 0x3c), (0xb0, 0x11, 12)]);
    let found = extended(&config);
    assert_eq!(
        ids(&found),
        [
            (0x100, 0x01, 0x48),
            (0x148, 0x03, 0x10),
            (0x158, 0x04, 0x10),
            (0x168, 0x19, 0x20),
            (0x188, 0x18, 0x08),
            (0x190, 0x1e, 0xe70),
        ]
    );
    assert!(found.iter().all(Capability::is_visible));
}

#[test]
fn walks_a_list_that_runs_backwards() {
    let found = standard(&e1000e().0);
    // PCI Express would take 0x3c bytes, and conventional configuration space ends after 0x20.
    assert_eq!(ids(&found), [(0xc8, 1, 8), (0xd0, 5, 14), (0xe0, 0x10, 0x20), (0xa0, 0x11, 12)]);
}

#[test]
fn hides_what_is_the_hosts() {
    let config = Config::new(0x8086, 0x10fb, 0x02_0000)
        .list(&[(0x40, 0x01, &[0; 6]), (0x50, 0x03, &[0; 6]), (0x60, 0x14, &[0; 2]), (0x70, 0x42, &[])])
        .extended(&[
            (0x100, 0x01, 1),
            (0x140, 0x03, 1),
            (0x150, 0x0e, 1),
            (0x160, 0x10, 1),
            (0x1a0, 0x0f, 1),
            (0x1b0, 0x15, 1),
            (0x1c0, 0x13, 1),
            (0x1d0, 0x1b, 1),
            (0x1e0, 0x12, 1),
            (0x1f0, 0x16, 1),
            (0x200, 0x1f, 1),
            (0x210, 0x2e, 1),
            (0x220, 0x30, 1),
        ])
        .0;
    let visible = |found: Vec<Capability>| -> Vec<u16> {
        found.iter().filter(|capability| capability.is_visible()).map(|capability| capability.id).collect()
    };
    assert_eq!(visible(standard(&config)), [0x01]);
    assert_eq!(visible(extended(&config)), [0x01, 0x03]);
}

#[test]
fn loops_and_wild_pointers_end() {
    let mut config = nvme().0;
    config[0xb1] = 0x40;
    assert_eq!(standard(&config).len(), 4);
    config[0xb1] = 0xb0;
    assert_eq!(standard(&config).len(), 4);
    config[0xb1] = 0x3c;
    assert_eq!(standard(&config).len(), 4);
    config[0x193] = 0x10;
    assert_eq!(extended(&config).len(), 6);
    config[0x06] = 0;
    assert_eq!(standard(&config), []);
}

#[test]
fn truncated_lists_end() {
    let config = nvme().0;
    assert_eq!(ids(&standard(&config[..0x60])), [(0x40, 1, 8), (0x50, 5, 14), (0x70, 0, 4)]);
    assert_eq!(extended(&config[..0x100]), []);
    assert_eq!(standard(&[]), []);
    assert_eq!(standard(&vec![0xff; 4096]).len(), 1);
    assert_eq!(extended(&vec![0xff; 4096]), []);
}

proptest! {
    #[test]
    fn any_bytes_give_a_bounded_list(config in proptest::collection::vec(any::<u8>(), 0..=4096)) {
        let found = standard(&config);
        prop_assert!(found.len() <= 48);
        prop_assert!(found.iter().all(|c| c.offset >= 0x40 && c.size >= 2 && c.offset + c.size <= 0x100));
        let found = extended(&config);
        prop_assert!(found.len() <= 960);
        prop_assert!(found.iter().all(|c| c.offset >= 0x100 && c.size >= 4 && c.offset + c.size <= 0x1000));
    }
}
