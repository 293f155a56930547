//! MAC addresses of network cards.

use std::fmt::{self, Display};
use std::str::FromStr;

/// Bits of the first byte: addresses more than one card, and given out by whoever runs the network.
const GROUP: u8 = 0x01;
const LOCAL: u8 = 0x02;

/// A MAC address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MacAddress(pub [u8; 6]);

/// Six bytes that are no MAC address, or none of a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the MAC address of a card")]
pub struct NoMacAddress;

impl MacAddress {
    /// A locally administered address, made from whatever tells a card from others: the same each time.
    pub fn made_up<'a>(from: impl IntoIterator<Item = &'a str>) -> Self {
        // FNV-1a, each part ended by a byte that no text has.
        let bytes = from.into_iter().flat_map(|part| part.bytes().chain([0xff]));
        let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        // Its upper half is not as well mixed.
        let [a, b, c, d, e, f, _, _] = (hash ^ hash >> 32).to_le_bytes();
        Self([a & !GROUP | LOCAL, b, c, d, e, f])
    }

    /// Whether a card can have it.
    pub fn is_of_a_card(self) -> bool {
        self.0[0] & GROUP == 0 && self.0 != [0; 6]
    }
}

impl FromStr for MacAddress {
    type Err = NoMacAddress;

    /// Reads `02:00:5e:10:00:01`, with colons or hyphens.
    fn from_str(text: &str) -> Result<Self, NoMacAddress> {
        let separator = if text.contains('-') { '-' } else { ':' };
        let mut parts = text.split(separator);
        let mut address = [0; 6];
        for byte in &mut address {
            let part = parts.next().filter(|part| part.len() == 2).ok_or(NoMacAddress)?;
            if !part.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(NoMacAddress);
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| NoMacAddress)?;
        }
        let address = Self(address);
        if parts.next().is_none() && address.is_of_a_card() { Ok(address) } else { Err(NoMacAddress) }
    }
}

impl Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[cfg(test)]
#[path = "mac_test.rs"]
mod tests;
