//! Which capabilities of a device a guest gets to see, and why it does not see the others (PCIe base 6.0 §7.5 to §7.9,
//! PCI Code and ID Assignment 1.14).
//!
//! The lists come from the device: offsets are bounded, loops end, and nothing is said twice.

/// Where device-specific configuration space starts.
pub(crate) const STANDARD_START: u16 = 0x40;
/// Where extended configuration space starts, and with it its list.
pub(crate) const EXTENDED_START: u16 = 0x100;
/// Bytes of configuration space.
pub(crate) const CONFIG_SIZE: u16 = 0x1000;

/// Power management.
pub(crate) const PM: u16 = 0x01;
/// Message-signalled interrupts.
pub(crate) const MSI: u16 = 0x05;
/// Vendor-specific.
const VENDOR: u16 = 0x09;
/// PCI Express.
pub(crate) const EXPRESS: u16 = 0x10;
/// MSI-X.
pub(crate) const MSIX: u16 = 0x11;

/// What becomes of a capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    /// The guest reads and writes the device's own, as far as VFIO lets it.
    Through,
    /// The guest reads the device's own; its writes are dropped.
    ReadOnly,
    /// The guest sees one of ours in its place.
    Emulated,
    /// The guest does not see it, for this reason.
    Hidden(&'static str),
}

/// A capability of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Capability {
    /// Its ID.
    pub(crate) id: u16,
    /// Where it starts.
    pub(crate) offset: u16,
    /// How many bytes are treated alike.
    pub(crate) size: u16,
    /// What becomes of it.
    pub(crate) policy: Policy,
}

impl Capability {
    /// Whether the guest finds it in the list.
    pub(crate) fn is_visible(&self) -> bool {
        !matches!(self.policy, Policy::Hidden(_))
    }
}

/// Every capability known, its size in bytes (0: see [`standard_size`]) and what becomes of it.
const STANDARD: &[(u16, u16, Policy)] = &[
    (PM, 8, Policy::Through),
    (0x02, 12, Policy::Hidden("AGP is of no use without an AGP bridge")),
    (0x03, 8, Policy::Hidden("VPD may be written, and outlives the guest")),
    (0x04, 4, Policy::Hidden("slots are the guest's platform's, not the device's")),
    (MSI, 0, Policy::Emulated),
    (0x06, 4, Policy::Hidden("hot swap is the host's")),
    (0x07, 8, Policy::Hidden("PCI-X tells of a bus the guest does not have")),
    (0x08, 28, Policy::Hidden("HyperTransport routes interrupts and addresses of the host")),
    (VENDOR, 0, Policy::Through),
    (0x0a, 4, Policy::Hidden("a debug port is the host's")),
    (0x0b, 4, Policy::Hidden("resources of CompactPCI are the host's")),
    (0x0c, 8, Policy::Hidden("hot plug is the host's")),
    (0x0d, 8, Policy::Hidden("only bridges have subsystem IDs here")),
    (0x0e, 12, Policy::Hidden("AGP is of no use without an AGP bridge")),
    (0x0f, 24, Policy::Hidden("secure devices answer to the host's IOMMU")),
    (EXPRESS, 0, Policy::Through),
    (MSIX, 12, Policy::Emulated),
    (0x12, 8, Policy::Hidden("the SATA index pair reaches past the BARs")),
    (0x13, 6, Policy::Hidden("resets of conventional functions are the host's")),
    (0x14, 0, Policy::Hidden("addresses come from BARs alone")),
];

/// Every extended capability that is not simply read-only, and what becomes of it.
const EXTENDED: &[(u16, Policy)] = &[
    (0x0001, Policy::Through), // Advanced error reporting: the guest's driver clears its own errors.
    (0x0004, Policy::Through), // Power budgeting is read through a select register.
    (0x000b, Policy::Through), // Vendor-specific.
    (0x000e, Policy::Hidden("ARI renumbers functions that the guest does not see")),
    (0x000f, Policy::Hidden("ATS lets the device translate past the guest's IOMMU, which it has not got")),
    (0x0010, Policy::Hidden("virtual functions are the host's to make")),
    (0x0011, Policy::Hidden("multi-root virtualisation is the host's")),
    (0x0012, Policy::Hidden("multicast groups are set up in the host's switches")),
    (0x0013, Policy::Hidden("page requests need an IOMMU in the guest")),
    (0x0015, Policy::Hidden("the size of a BAR is fixed while it is mapped")),
    (0x0016, Policy::Hidden("power allocation is the host's")),
    (0x0017, Policy::Hidden("processing hints name processors of the host")),
    (0x001b, Policy::Hidden("PASIDs need an IOMMU in the guest")),
    (0x001d, Policy::Hidden("containing errors is up to the host's ports")),
    (0x001f, Policy::Hidden("precise time comes from ports the guest does not have")),
    (0x0023, Policy::Through), // Designated vendor-specific.
    (0x0024, Policy::Hidden("the sizes of virtual functions' BARs are the host's")),
    (0x002e, Policy::Hidden("mailboxes to the device's firmware are the host's")),
    (0x0030, Policy::Hidden("links are encrypted by the host's ports")),
];

/// The capabilities of a device in the order of its list. `config` is its configuration space.
pub(crate) fn standard(config: &[u8]) -> Vec<Capability> {
    let has_list = byte(config, 0x06) & 0x10 != 0;
    let mut found: Vec<Capability> = Vec::new();
    let mut next = if has_list { u16::from(byte(config, 0x34) & !3) } else { 0 };
    while next >= STANDARD_START && found.iter().all(|seen| seen.offset != next) {
        let id = u16::from(byte(config, next));
        let (size, policy) = match STANDARD.iter().find(|(known, ..)| *known == id) {
            Some((_, 0, policy)) => (standard_size(config, id, next), *policy),
            Some((_, size, policy)) => (*size, *policy),
            None => (4, Policy::Hidden("it is unknown")),
        };
        found.push(Capability { id, offset: next, size, policy });
        next = u16::from(byte(config, next + 1) & !3);
    }
    bound(&mut found, EXTENDED_START);
    found
}

/// The extended capabilities of a device in the order of its list. `config` is its configuration space.
pub(crate) fn extended(config: &[u8]) -> Vec<Capability> {
    let mut found: Vec<Capability> = Vec::new();
    let mut next = EXTENDED_START;
    while next >= EXTENDED_START && found.iter().all(|seen| seen.offset != next) {
        let header = dword(config, next);
        if header == 0 || header == u32::MAX {
            break;
        }
        let id = header as u16;
        let policy =
            EXTENDED.iter().find(|(known, _)| *known == id).map_or(Policy::ReadOnly, |(_, policy)| *policy);
        // VFIO leaves a null capability where it hides the first one itself.
        let policy = if matches!(id, 0 | 0xffff) { Policy::Hidden("it is none") } else { policy };
        found.push(Capability { id, offset: next, size: CONFIG_SIZE, policy });
        next = (header >> 20) as u16 & !3;
    }
    bound(&mut found, CONFIG_SIZE);
    found
}

/// Lets each capability end where the one behind it starts, at the latest.
fn bound(found: &mut [Capability], end: u16) {
    let mut starts: Vec<u16> = found.iter().map(|capability| capability.offset).collect();
    starts.push(end);
    for capability in found {
        let behind = starts.iter().filter(|start| **start > capability.offset).min();
        capability.size = capability.size.min(behind.unwrap_or(&end).saturating_sub(capability.offset));
    }
}

/// The size of a capability that says so itself.
fn standard_size(config: &[u8], id: u16, offset: u16) -> u16 {
    let control = byte(config, offset + 2);
    match id {
        // 64-bit addresses, per-vector masking.
        MSI => {
            10 + if control & 0x80 != 0 { 4 } else { 0 }
                + if byte(config, offset + 3) & 1 != 0 { 10 } else { 0 }
        }
        VENDOR => u16::from(control).max(3),
        EXPRESS if control & 0xf < 2 => 0x14,
        EXPRESS => 0x3c,
        _ => EXTENDED_START,
    }
}

/// A byte of configuration space; 0 past its end.
pub(crate) fn byte(config: &[u8], offset: u16) -> u8 {
    config.get(usize::from(offset)).copied().unwrap_or(0)
}

/// A word of configuration space.
pub(crate) fn word(config: &[u8], offset: u16) -> u16 {
    u16::from_le_bytes([byte(config, offset), byte(config, offset.saturating_add(1))])
}

/// A dword of configuration space.
pub(crate) fn dword(config: &[u8], offset: u16) -> u32 {
    u32::from(word(config, offset)) | u32::from(word(config, offset.saturating_add(2))) << 16
}

#[cfg(test)]
#[path = "capability_test.rs"]
mod tests;
