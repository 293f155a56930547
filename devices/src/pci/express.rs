//! What a function's own PCIe capability says of its link (PCIe base 6.0 §7.5.3.8).

use super::function::PciFunction;
use super::root_port::Link;

const STATUS: u16 = 0x06;
const STATUS_LIST: u16 = 1 << 4;
const LIST: u16 = 0x34;
const FIRST: u8 = 0x40;
const EXPRESS: u8 = 0x10;
const LINK_STATUS: u16 = 0x12;
/// No list is longer: each capability takes four bytes of 192.
const MOST_CAPABILITIES: usize = 48;

/// The link a function has, or the least there is.
pub(super) fn link(function: &dyn PciFunction) -> Link {
    let status = capability(function, EXPRESS).map_or(0, |at| word(function, at + LINK_STATUS));
    match ((status & 0xf) as u8, (status >> 4 & 0x3f) as u8) {
        (0, _) | (_, 0) => Link::LEAST,
        (speed, width) => Link { speed, width },
    }
}

/// Where a capability starts.
fn capability(function: &dyn PciFunction, id: u8) -> Option<u16> {
    let mut at = match word(function, STATUS) & STATUS_LIST {
        0 => 0,
        _ => byte(function, LIST) & !3,
    };
    for _ in 0..MOST_CAPABILITIES {
        if at < FIRST {
            return None;
        }
        let [found, next] = word(function, at.into()).to_le_bytes();
        if found == id {
            return Some(at.into());
        }
        at = next & !3;
    }
    None
}

fn byte(function: &dyn PciFunction, offset: u16) -> u8 {
    let mut data = [0];
    function.config_read(offset, &mut data);
    data[0]
}

fn word(function: &dyn PciFunction, offset: u16) -> u16 {
    let mut data = [0; 2];
    function.config_read(offset, &mut data);
    u16::from_le_bytes(data)
}

#[cfg(test)]
#[path = "express_test.rs"]
mod tests;
