//! The tables without AML: FADT (ACPI 6.5, 5.2.9), MADT (5.2.12), SRAT (5.2.16), SLIT (5.2.17), VIOT (5.2.34), MCFG (PCI firmware
//! specification 4.1.2).

use acpi_tables::fadt::{FADTBuilder, Flags};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use acpi_tables::mcfg::MCFG;
use acpi_tables::sdt::Sdt;
use devices::pci::PciAddress;

use super::{AcpiSpec, Memory, OEM_ID, OEM_REVISION, OEM_TABLE_ID, Viot, bytes_of};

/// User-visible devices on an LPC or ISA bus: the serial port.
const IAPC_LEGACY_DEVICES: u16 = 1 << 0;
const IAPC_VGA_NOT_PRESENT: u16 = 1 << 2;
/// ASPM is the host's business: a guest cannot see the link.
const IAPC_NO_ASPM: u16 = 1 << 4;
const IAPC_CMOS_RTC_NOT_PRESENT: u16 = 1 << 5;

const MADT_REVISION: u8 = 5;
/// Header, local APIC address, flags.
const MADT_SIZE: u32 = 44;
const LOCAL_APIC_ADDRESS: u32 = 0xfee0_0000;
const MADT_LOCAL_APIC: u8 = 0;
const MADT_IOAPIC: u8 = 1;
const MADT_LOCAL_X2APIC: u8 = 9;
const MADT_ENABLED: u32 = 1;
const SRAT_REVISION: u8 = 3;
/// Header, and twelve reserved bytes of which the first four are 1.
const SRAT_SIZE: u32 = 48;
const SRAT_LOCAL_APIC: u8 = 0;
const SRAT_MEMORY: u8 = 1;
const SRAT_LOCAL_X2APIC: u8 = 2;
const SRAT_ENABLED: u32 = 1 << 0;
const SRAT_HOT_PLUGGABLE: u32 = 1 << 1;
const SLIT_REVISION: u8 = 1;
/// Header, and the number of nodes.
const SLIT_SIZE: u32 = 44;
/// Distances, of which 10 is none (6.2.15 has it as relative to that).
const HERE: u8 = 10;
const THERE: u8 = 20;
/// 255 addresses all local APICs at once.
const MAX_XAPIC_ID: u32 = 254;

const VIOT_REVISION: u8 = 0;
/// Header, number of nodes, where they start, reserved.
const VIOT_SIZE: u32 = 48;
const VIOT_NODES: u16 = VIOT_SIZE as u16;
const VIOT_PCI_RANGE: u8 = 1;
const VIOT_IOMMU_PCI: u8 = 3;

/// The fixed description: no fixed hardware at all but sleep and reset registers.
pub(super) fn fadt(spec: &AcpiSpec, dsdt: u64) -> Vec<u8> {
    let mut fadt = FADTBuilder::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION)
        .dsdt_64(dsdt)
        .flag(Flags::HwReducedAcpi)
        .flag(Flags::Wbinvd)
        .flag(Flags::ResetRegSup)
        // Both buttons: control method devices, or none.
        .flag(Flags::PwrButton)
        .flag(Flags::SlpButton);
    fadt.reset_reg = port(spec.reset.port);
    fadt.reset_value = spec.reset.value;
    fadt.sleep_control_reg = port(spec.sleep.control);
    fadt.sleep_status_reg = port(spec.sleep.status);
    let mut boot = IAPC_VGA_NOT_PRESENT | IAPC_NO_ASPM;
    if spec.serial.is_some() {
        boot |= IAPC_LEGACY_DEVICES;
    }
    if !spec.rtc {
        boot |= IAPC_CMOS_RTC_NOT_PRESENT;
    }
    fadt.iapc_boot_arch = boot.into();
    bytes_of(&fadt.finalize())
}

fn port(port: u16) -> GAS {
    GAS::new(AddressSpace::SystemIo, 8, 0, AccessSize::ByteAccess, u64::from(port))
}

/// The interrupt controllers. No 8259s: PCAT_COMPAT is clear.
pub(super) fn madt(spec: &AcpiSpec) -> Vec<u8> {
    let mut madt = Sdt::new(*b"APIC", MADT_SIZE, MADT_REVISION, OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    madt.write_u32(36, LOCAL_APIC_ADDRESS);
    let mut entries = Vec::new();
    for &id in &spec.apic_ids {
        // The processor UID is the APIC id: the DSDT has no processor objects it would have to match.
        match u8::try_from(id) {
            Ok(short) if id <= MAX_XAPIC_ID => {
                entries.extend([MADT_LOCAL_APIC, 8, short, short]);
                entries.extend(MADT_ENABLED.to_le_bytes());
            }
            _ => {
                entries.extend([MADT_LOCAL_X2APIC, 16, 0, 0]);
                for field in [id, MADT_ENABLED, id] {
                    entries.extend(field.to_le_bytes());
                }
            }
        }
    }
    entries.extend([MADT_IOAPIC, 12, spec.ioapic.id, 0]);
    entries.extend(spec.ioapic.address.to_le_bytes());
    let gsi_base = 0_u32;
    entries.extend(gsi_base.to_le_bytes());
    madt.append_slice(&entries);
    bytes_of(&madt)
}

/// NUMA nodes with their CPUs and memory; one if the guest is not to know of any. What can be plugged in is named here, so that a kernel
/// knows from the start how far memory may reach: Linux sizes what devices with short addresses need by that (`max_possible_pfn`).
pub(super) fn srat(spec: &AcpiSpec, memory: &Memory) -> Vec<u8> {
    let mut srat = Sdt::new(*b"SRAT", SRAT_SIZE, SRAT_REVISION, OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    srat.write_u32(36, 1);
    let mut entries = Vec::new();
    // Linux numbers nodes in the order in which it hears of them (acpi_map_pxm_to_node), of CPUs first.
    let nodes = memory.cpus.iter().chain(std::iter::repeat(&0));
    let mut cpus: Vec<(u32, u32)> = nodes.zip(&spec.apic_ids).map(|(node, id)| (*node as u32, *id)).collect();
    cpus.sort_unstable();
    for (node, id) in cpus {
        match u8::try_from(id) {
            Ok(short) if id <= MAX_XAPIC_ID => {
                let [low, high @ ..] = node.to_le_bytes();
                entries.extend([SRAT_LOCAL_APIC, 16, low, short]);
                entries.extend(SRAT_ENABLED.to_le_bytes());
                entries.push(0);
                entries.extend(high);
                entries.extend([0; 4]);
            }
            _ => {
                entries.extend([SRAT_LOCAL_X2APIC, 24, 0, 0]);
                for field in [node, id, SRAT_ENABLED, 0, 0] {
                    entries.extend(field.to_le_bytes());
                }
            }
        }
    }
    let ram = memory.ram.iter().map(|(range, node)| (range, *node as u32, SRAT_ENABLED));
    let pluggable = memory.pluggable.iter().map(|range| (range, 0, SRAT_ENABLED | SRAT_HOT_PLUGGABLE));
    for (range, node, flags) in ram.chain(pluggable) {
        entries.extend([SRAT_MEMORY, 40]);
        entries.extend(node.to_le_bytes());
        entries.extend([0; 2]);
        entries.extend(range.start.to_le_bytes());
        entries.extend(range.size.to_le_bytes());
        entries.extend([0; 4]);
        entries.extend(flags.to_le_bytes());
        entries.extend([0; 8]);
    }
    srat.append_slice(&entries);
    bytes_of(&srat)
}

/// Which functions a virtio IOMMU is in charge of: a node for the IOMMU, and one for each of them that leads to it.
pub(super) fn viot(viot: &Viot) -> Vec<u8> {
    let mut table = Sdt::new(*b"VIOT", VIOT_SIZE, VIOT_REVISION, OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    let nodes = u16::try_from(viot.endpoints.len() + 1).unwrap_or(u16::MAX);
    table.write_u16(36, nodes);
    table.write_u16(38, VIOT_NODES);
    let number = |address: &PciAddress| address.number() as u16;
    let mut entries = vec![VIOT_IOMMU_PCI, 0, 16, 0, 0, 0];
    entries.extend(number(&viot.iommu).to_le_bytes());
    entries.extend([0; 8]);
    for endpoint in &viot.endpoints {
        entries.extend([VIOT_PCI_RANGE, 0, 24, 0]);
        entries.extend(endpoint.number().to_le_bytes());
        let segment = 0_u16;
        for field in [segment, segment, number(endpoint), number(endpoint), VIOT_NODES] {
            entries.extend(field.to_le_bytes());
        }
        entries.extend([0; 6]);
    }
    table.append_slice(&entries);
    bytes_of(&table)
}

/// How far nodes are from each other: all the same.
pub(super) fn slit(memory: &Memory) -> Vec<u8> {
    let mut slit = Sdt::new(*b"SLIT", SLIT_SIZE, SLIT_REVISION, OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    slit.write_u64(36, memory.nodes as u64);
    let row = |from| (0..memory.nodes).map(move |to| if from == to { HERE } else { THERE });
    slit.append_slice(&(0..memory.nodes).flat_map(row).collect::<Vec<u8>>());
    bytes_of(&slit)
}

/// Where PCI configuration space is.
pub(super) fn mcfg(spec: &AcpiSpec) -> Vec<u8> {
    let mut mcfg = MCFG::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    mcfg.add_ecam(spec.ecam.start, 0, 0, last_bus(spec));
    bytes_of(&mcfg)
}

/// The last bus the ECAM has room for.
pub(super) fn last_bus(spec: &AcpiSpec) -> u8 {
    u8::try_from((spec.ecam.size >> 20).saturating_sub(1)).unwrap_or(u8::MAX)
}
