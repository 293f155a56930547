//! Configuration space of a virtio function, and what lies where in its one BAR (virtio 1.3 §4.1.4).

use crate::pci::bar::BarError;
use crate::pci::config::{CapabilityError, Identity};
use crate::pci::msix::BarOffset;
use crate::pci::{BarSet, BarSpace, BarSpec, ConfigSpace, Msix};
use crate::virtio::DeviceType;
use crate::virtio::pci::common;

/// The BAR that has all of it.
pub(super) const BAR: u8 = 0;
/// Reading it has side effects only in the ISR status, which no bridge reads ahead of.
const BAR_SPEC: BarSpec =
    BarSpec { index: BAR, space: BarSpace::Memory64, prefetchable: true, size: 0x10000 };
const PAGE: u64 = 0x1000;
const COMMON: u64 = 0;
const ISR: u64 = PAGE;
const DEVICE: u64 = 2 * PAGE;
/// A doorbell for each queue.
pub(super) const DOORBELLS: u64 = 3 * PAGE;
/// Bytes from one doorbell to the next.
pub(super) const DOORBELL_STRIDE: u64 = 4;
const PENDING: u64 = 4 * PAGE;
const TABLE: u64 = 0x8000;
/// So many doorbells fit.
pub(super) const MOST_QUEUES: usize = (PAGE / DOORBELL_STRIDE) as usize;

const VENDOR: u16 = 0x1af4;
/// Device IDs of transitional devices end below this one (§4.1.2.1).
const FIRST_DEVICE: u16 = 0x1040;

const VENDOR_SPECIFIC: u8 = 0x09;
const MSIX: u8 = 0x11;
const EXPRESS: u8 = 0x10;
/// Bytes of the capability of an endpoint, version 2; of one that is part of the root complex, or behind a port.
const EXPRESS_SIZE: usize = 0x3c;
const EXPRESS_INTEGRATED: u16 = 2 | 9 << 4;
const EXPRESS_ENDPOINT: u16 = 2;
/// Offsets of link capabilities and link status, and a link of 2.5 GT/s with one lane in both, which an endpoint behind a port has.
const LINK_CAPABILITIES: u16 = 0x0c;
const LINK_STATUS: u16 = 0x12;
const LINK: u16 = 1 | 1 << 4;
/// Function level reset, and errors reported by their role (PCIe base 6.0 §7.5.3.3).
const DEVICE_CAPABILITIES: u32 = 1 << 28 | 1 << 15;
/// Error reporting, and packets of any size.
const DEVICE_CONTROL_WRITABLE: [u8; 2] = 0x00ff_u16.to_le_bytes();

/// What lies at an offset of the BAR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Region {
    /// The common configuration.
    Common(u64),
    /// The ISR status.
    Isr,
    /// The device's own configuration.
    Device(u64),
    /// The doorbell of a queue.
    Doorbell(u16),
    /// The MSI-X table.
    Table(u64),
    /// MSI-X pending bits.
    Pending(u64),
    /// Nothing.
    Nothing,
}

/// What lies at `offset`.
pub(super) fn region(offset: u64) -> Region {
    match offset {
        COMMON..ISR => Region::Common(offset),
        ISR => Region::Isr,
        DEVICE..DOORBELLS => Region::Device(offset - DEVICE),
        DOORBELLS..PENDING => Region::Doorbell(((offset - DOORBELLS) / DOORBELL_STRIDE) as u16),
        PENDING..TABLE => Region::Pending(offset - PENDING),
        TABLE.. => Region::Table(offset - TABLE),
        _ => Region::Nothing,
    }
}

/// Where the capabilities lie that do something when they are written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    /// MSI-X.
    pub(super) msix: u16,
    /// PCI Express.
    pub(super) express: u16,
    /// The window to the BAR (§4.1.4.9).
    pub(super) window: u16,
}

/// Why there is no such configuration space; a defect of ours.
#[derive(Debug, thiserror::Error)]
pub enum SpaceError {
    /// Too many capabilities.
    #[error(transparent)]
    Capability(#[from] CapabilityError),
    /// A wrong BAR.
    #[error(transparent)]
    Bar(#[from] BarError),
}

/// Configuration space as after power-on, of a device on bus 0 or behind a root port.
pub(super) fn lay_out(
    kind: DeviceType,
    msix: &Msix,
    behind_port: bool,
) -> Result<(ConfigSpace, Places), SpaceError> {
    let mut bars = BarSet::new();
    bars.add(BAR_SPEC)?;
    let identity = Identity {
        vendor: VENDOR,
        device: FIRST_DEVICE + kind.id,
        class: kind.pci_class,
        // Drivers of before 1.0 look for revision 0.
        revision: 1,
        subsystem_vendor: VENDOR,
        subsystem: FIRST_DEVICE + kind.id,
    };
    let mut config = ConfigSpace::new(&identity, bars);
    let mut express = [0; EXPRESS_SIZE - 2];
    let flags = if behind_port { EXPRESS_ENDPOINT } else { EXPRESS_INTEGRATED };
    let header = flags.to_le_bytes().into_iter().chain(DEVICE_CAPABILITIES.to_le_bytes());
    express.iter_mut().zip(header).for_each(|(to, from)| *to = from);
    let express = config.add_capability(EXPRESS, &express, &[])?;
    config.set_writable(express + 8, &DEVICE_CONTROL_WRITABLE);
    if behind_port {
        config.set(express + LINK_CAPABILITIES, &LINK.to_le_bytes());
        config.set(express + LINK_STATUS, &LINK.to_le_bytes());
    }
    let at = |offset: u64| BarOffset { bar: BAR, offset: offset as u32 };
    let msix = config.add_capability(
        MSIX,
        &msix.capability(at(TABLE), at(PENDING)),
        &crate::pci::msix::CONTROL_WRITABLE.to_le_bytes(),
    )?;
    for (kind, offset, size) in [(1, COMMON, common::SIZE), (3, ISR, 1), (4, DEVICE, PAGE)] {
        config.add_capability(VENDOR_SPECIFIC, &structure(kind, offset, size), &[])?;
    }
    let doorbells =
        [structure(2, DOORBELLS, PAGE).as_slice(), &(DOORBELL_STRIDE as u32).to_le_bytes()].concat();
    config.add_capability(VENDOR_SPECIFIC, &with_length(&doorbells), &[])?;
    let window = with_length(&[structure(5, 0, 0).as_slice(), &[0; 4]].concat());
    // BAR, offset, length and data can be written.
    let writable = [0, 0, 0xff, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    let window = config.add_capability(VENDOR_SPECIFIC, &window, &writable)?;
    Ok((config, Places { msix, express, window }))
}

/// struct virtio_pci_cap without its first two bytes (§4.1.4).
fn structure(kind: u8, offset: u64, size: u64) -> [u8; 14] {
    let mut body = [0; 14];
    let parts = [16, kind, BAR, 0, 0, 0]
        .into_iter()
        .chain((offset as u32).to_le_bytes())
        .chain((size as u32).to_le_bytes());
    body.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
    body
}

/// The same with its own length set right.
fn with_length(body: &[u8]) -> Vec<u8> {
    let mut body = body.to_vec();
    let length = body.len() as u8 + 2;
    if let Some(first) = body.first_mut() {
        *first = length;
    }
    body
}
