//! `0000:01:00.0`: segment, bus, device, function.

use std::fmt;
use std::str::FromStr;

/// Where a PCI function is found, on the host or in the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PciAddress {
    /// Segment group (Linux: domain).
    pub segment: u16,
    /// Bus number.
    pub bus: u8,
    /// Device number, below 32.
    pub device: u8,
    /// Function number, below 8.
    pub function: u8,
}

impl PciAddress {
    /// Segment, bus, device and function in one number, by which IOMMUs know it.
    pub fn number(&self) -> u32 {
        u32::from(self.segment) << 16
            | u32::from(self.bus) << 8
            | u32::from(self.device) << 3
            | u32::from(self.function)
    }
}

/// A string that is not a PCI address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a PCI address: expected SEGMENT:BUS:DEVICE.FUNCTION in hexadecimal, as in 0000:01:00.0"
)]
pub struct ParseAddressError(String);

impl FromStr for PciAddress {
    type Err = ParseAddressError;

    /// Parses `0000:01:00.0`, or `01:00.0` with segment 0.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (rest, function) = text.rsplit_once('.')?;
            let (rest, device) = rest.rsplit_once(':')?;
            let (segment, bus) = rest.rsplit_once(':').unwrap_or(("0", rest));
            Some(Self {
                segment: hex(segment, 4, 0xffff)?,
                bus: hex(bus, 2, 0xff)? as u8,
                device: hex(device, 2, 0x1f)? as u8,
                function: hex(function, 1, 7)? as u8,
            })
        };
        parse().ok_or_else(|| ParseAddressError(text.chars().take(64).collect()))
    }
}

fn hex(digits: &str, most: usize, max: u16) -> Option<u16> {
    let plain = !digits.is_empty() && digits.len() <= most && digits.bytes().all(|b| b.is_ascii_hexdigit());
    plain.then(|| u16::from_str_radix(digits, 16).ok()).flatten().filter(|value| *value <= max)
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:02x}:{:02x}.{:x}", self.segment, self.bus, self.device, self.function)
    }
}

/// Device and function number on a bus, as in a configuration address: bits 7 to 3 and 2 to 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Devfn(pub u8);

impl Devfn {
    /// From numbers below 32 and 8; higher bits are cut off.
    pub const fn new(device: u8, function: u8) -> Self {
        Self(device << 3 | function & 7)
    }

    /// Device number.
    pub const fn device(self) -> u8 {
        self.0 >> 3
    }

    /// Function number.
    pub const fn function(self) -> u8 {
        self.0 & 7
    }

    /// Its address on bus 0 of segment 0.
    pub const fn address(self) -> PciAddress {
        PciAddress { segment: 0, bus: 0, device: self.device(), function: self.function() }
    }
}

#[cfg(test)]
#[path = "address_test.rs"]
mod tests;
