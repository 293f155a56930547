use super::*;
use crate::testing::FakeFunction;

/// A function with a vendor-specific capability, and a PCIe one with this link status.
fn with_link(status: u16) -> std::sync::Arc<FakeFunction> {
    let function = FakeFunction::new(&[]);
    let mut express = [0; 0x3a];
    express[0x10..0x12].copy_from_slice(&status.to_le_bytes());
    {
        let mut config = function.config.lock().unwrap();
        config.add_capability(0x09, &[3], &[]).unwrap();
        config.add_capability(EXPRESS, &express, &[]).unwrap();
    }
    function
}

#[test]
fn the_link_is_what_the_capability_says() {
    assert_eq!(link(&*with_link(0x1083)), Link { speed: 3, width: 8 });
    assert_eq!(link(&*with_link(0x0044)), Link { speed: 4, width: 4 });
}

#[test]
fn without_a_link_there_is_the_least() {
    assert_eq!(link(&*FakeFunction::new(&[])), Link::LEAST);
    for status in [0, 0x0010, 0x0001] {
        assert_eq!(link(&*with_link(status)), Link::LEAST, "{status:#x}");
    }
}

#[test]
fn a_list_that_never_ends_does() {
    let function = with_link(0x1083);
    // The first capability leads to itself.
    function.config.lock().unwrap().set(0x41, &[0x40]);
    assert_eq!(link(&*function), Link::LEAST);
    function.config.lock().unwrap().set(0x41, &[0x0c]);
    assert_eq!(link(&*function), Link::LEAST, "into the header");
}
