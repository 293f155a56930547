//! The ACPI tables of the machine: a hardware-reduced platform with one PCI host bridge.
//!
//! ACPI specification 6.5; PCI firmware specification 3.3 for the host bridge. [`AcpiSpec`] is plain data, so
//! that the tables can be built and looked at without a machine. They live at [`map::ACPI`], below 1 MiB,
//! where also kernels find the RSDP that take no pointer to it.

mod dsdt;
mod tables;

use std::ops::RangeInclusive;

use acpi_tables::Aml;
use acpi_tables::rsdp::Rsdp;
use acpi_tables::xsdt::XSDT;
use devices::pci::PciAddress;
use memory::GuestRange;
use miette::Diagnostic;
use thiserror::Error;

use crate::boot::map;

const OEM_ID: [u8; 6] = *b"VMM   ";
const OEM_TABLE_ID: [u8; 8] = *b"VMM     ";
const OEM_REVISION: u32 = 1;
/// Alignment of each table, as firmware has it.
const ALIGN: usize = 16;

/// The machine as ACPI describes it.
#[derive(Clone, Debug)]
pub struct AcpiSpec {
    /// APIC id of each CPU, the boot CPU's first.
    pub apic_ids: Vec<u32>,
    /// The only IOAPIC; its pins are GSIs from 0 on.
    pub ioapic: IoApic,
    /// Configuration space of PCI segment 0: 1 MiB for each bus from 0 on.
    pub ecam: GuestRange,
    /// Where 32-bit BARs go; empty for none.
    pub mmio32: GuestRange,
    /// Where 64-bit BARs go; empty for none.
    pub mmio64: GuestRange,
    /// I/O ports for BARs. Every fixed port lies outside.
    pub io: RangeInclusive<u16>,
    /// Where the interrupt pins of bus 0 lead; empty for nowhere.
    pub intx: Vec<IntxRoute>,
    /// Registers that put the machine to sleep; [`SLEEP_S5`] written to control is power-off.
    pub sleep: SleepPorts,
    /// Register that resets the machine.
    pub reset: ResetPort,
    /// COM1, a 16550.
    pub serial: Option<IsaDevice>,
    /// The CMOS real-time clock at ports 0x70 and 0x71, without an interrupt.
    pub rtc: bool,
    /// NUMA nodes, and memory that can be plugged in: without any, the guest need not hear of memory here.
    pub memory: Option<Memory>,
    /// An IOMMU, and what it is in charge of.
    pub viot: Option<Viot>,
    /// A power button that the host can press.
    pub power_button: Option<PowerButton>,
}

/// Where memory and CPUs are.
#[derive(Clone, Debug)]
pub struct Memory {
    /// What it has from the start, each piece with its node.
    pub ram: Vec<(GuestRange, usize)>,
    /// What can be plugged in, on node 0.
    pub pluggable: Option<GuestRange>,
    /// The node of each CPU, the boot CPU's first; 0 for those that are missing.
    pub cpus: Vec<usize>,
    /// Nodes.
    pub nodes: usize,
}

/// A virtio IOMMU.
#[derive(Clone, Debug)]
pub struct Viot {
    /// Where it is.
    pub iommu: PciAddress,
    /// The functions that it is in charge of. It knows each by its bus, device and function.
    pub endpoints: Vec<PciAddress>,
}

/// An IOAPIC.
#[derive(Clone, Copy, Debug)]
pub struct IoApic {
    /// Its id.
    pub id: u8,
    /// Its registers, guest physical.
    pub address: u32,
}

/// Where an interrupt pin of all functions of a device leads: level-triggered, active low.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntxRoute {
    /// Device number on bus 0.
    pub device: u8,
    /// 0 for INTA# to 3 for INTD#.
    pub pin: u8,
    /// The interrupt.
    pub gsi: u8,
}

/// The sleep registers of hardware-reduced ACPI (4.8.3.7), a byte wide.
#[derive(Clone, Copy, Debug)]
pub struct SleepPorts {
    /// SLEEP_CONTROL_REG, an I/O port.
    pub control: u16,
    /// SLEEP_STATUS_REG, an I/O port.
    pub status: u16,
}

/// What a guest writes to SLEEP_CONTROL_REG to power off: SLP_TYP 5 with SLP_EN.
pub const SLEEP_S5: u8 = S5_TYPE << 2 | 1 << 5;
const S5_TYPE: u8 = 5;

/// The reset register (4.8.3.6), a byte wide.
#[derive(Clone, Copy, Debug)]
pub struct ResetPort {
    /// I/O port.
    pub port: u16,
    /// What a guest writes to reset.
    pub value: u8,
}

/// A device with eight I/O ports and an interrupt.
#[derive(Clone, Copy, Debug)]
pub struct IsaDevice {
    /// First port.
    pub port: u16,
    /// Its interrupt, edge-triggered and active high.
    pub gsi: u32,
}

/// A control-method power button behind a generic event device (4.8.3.2.2, 5.6.9).
///
/// To press it, the host sets [`POWER_BUTTON_EVENT`] in the register and raises the GSI.
#[derive(Clone, Copy, Debug)]
pub struct PowerButton {
    /// The event device's interrupt, edge-triggered and active high.
    pub gsi: u32,
    /// I/O port of its register, a byte: the events pending, cleared by reading.
    pub events: u16,
}

/// The bit in the event register that stands for the power button.
pub const POWER_BUTTON_EVENT: u8 = 1 << 0;

/// Why there are no tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error, Diagnostic)]
pub enum AcpiError {
    /// Sizes in bytes.
    #[error("the ACPI tables take {size} bytes, there is room for {room}")]
    #[diagnostic(help("give the guest fewer CPUs"))]
    TooLarge {
        /// What they take.
        size: u64,
        /// What there is.
        room: u64,
    },
}

/// All tables, ready to be copied to guest memory.
#[derive(Clone, Debug)]
pub struct AcpiTables {
    bytes: Vec<u8>,
}

impl AcpiTables {
    /// Builds the tables that describe `spec`.
    pub fn build(spec: &AcpiSpec) -> Result<Self, AcpiError> {
        let mut image = Image { bytes: vec![0; Rsdp::len()] };
        let dsdt = image.append(&dsdt::dsdt(spec));
        let mut xsdt = XSDT::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION);
        let srat = spec.memory.as_ref().map(|memory| tables::srat(spec, memory));
        let fixed = [tables::fadt(spec, dsdt), tables::madt(spec), tables::mcfg(spec)];
        let viot = spec.viot.as_ref().map(tables::viot);
        let slit = spec.memory.as_ref().filter(|memory| memory.nodes > 1).map(tables::slit);
        for table in fixed.into_iter().chain(srat).chain(slit).chain(viot) {
            xsdt.add_entry(image.append(&table));
        }
        let xsdt = image.append(&bytes_of(&xsdt));
        let mut bytes = image.bytes;
        for (byte, value) in bytes.iter_mut().zip(bytes_of(&Rsdp::new(OEM_ID, xsdt))) {
            *byte = value;
        }
        match bytes.len() as u64 {
            size if size > map::ACPI.size => Err(AcpiError::TooLarge { size, room: map::ACPI.size }),
            _ => Ok(Self { bytes }),
        }
    }

    /// Guest physical address of the RSDP, at which all of [`Self::bytes`] go.
    pub fn rsdp(&self) -> u64 {
        map::ACPI.start
    }

    /// RSDP and tables.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// The tables as they grow.
struct Image {
    bytes: Vec<u8>,
}

impl Image {
    /// Appends a table, aligned; returns its guest physical address.
    fn append(&mut self, table: &[u8]) -> u64 {
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGN), 0);
        let address = map::ACPI.start + self.bytes.len() as u64;
        self.bytes.extend_from_slice(table);
        address
    }
}

fn bytes_of(table: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.to_aml_bytes(&mut bytes);
    bytes
}

#[cfg(test)]
#[path = "acpi_test.rs"]
mod tests;
