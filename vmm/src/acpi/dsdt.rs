//! The DSDT: sleep states and devices, as AML.
//!
//! In ASL, without the parts that `AcpiSpec` leaves out:
//!
//! ```text
//! Name (_S5, Package { 5, 0, 0, 0 })
//! Scope (_SB) {
//!     Device (PCI0) { ... }   // host bridge: bus numbers, I/O and memory windows, interrupt pins, _OSC
//!     Device (MBRD) { ... }   // keeps the ECAM from being given away
//!     Device (COM1) { ... }   Device (RTC0) { ... }
//!     Device (PWRB) { ... }   Device (GED0) { ... }   // power button, and what rings it
//! }
//! ```

use acpi_tables::aml::{
    AddressSpace, AddressSpaceCacheable, And, Arg, CreateDWordField, Device, EISAName, Else, Equal, Field,
    FieldAccessType, FieldEntry, FieldLockRule, FieldUpdateRule, IO, If, Interrupt, Local, Method, Name,
    NotEqual, Notify, OpRegion, OpRegionSpace, Or, Package, PackageBuilder, Path, ResourceTemplate, Return,
    Scope, Store, Uuid, ZERO,
};
use acpi_tables::sdt::Sdt;
use acpi_tables::{Aml, AmlSink};
use memory::GuestRange;

use super::{
    AcpiSpec, IntxRoute, IsaDevice, OEM_ID, OEM_REVISION, OEM_TABLE_ID, POWER_BUTTON_EVENT, PowerButton,
    S5_TYPE, bytes_of, tables,
};

const HEADER_SIZE: u32 = 36;
/// 64-bit integers in AML.
const DSDT_REVISION: u8 = 2;

/// The whole table.
pub(super) fn dsdt(spec: &AcpiSpec) -> Vec<u8> {
    let mut devices = pci_host_bridge(spec);
    devices.extend(motherboard(spec.ecam));
    devices.extend(spec.serial.map(serial).unwrap_or_default());
    if spec.rtc {
        devices.extend(rtc());
    }
    devices.extend(spec.power_button.map(power_button).unwrap_or_default());

    let mut dsdt = Sdt::new(*b"DSDT", HEADER_SIZE, DSDT_REVISION, OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    let s5 = Package::new(vec![&S5_TYPE, &ZERO, &ZERO, &ZERO]);
    dsdt.append_slice(&bytes_of(&Name::new("_S5_".into(), &s5)));
    dsdt.append_slice(&Scope::raw("_SB_".into(), devices));
    bytes_of(&dsdt)
}

/// The host bridge of segment 0, bus 0 (PCI firmware specification 4.1.3).
fn pci_host_bridge(spec: &AcpiSpec) -> Vec<u8> {
    let buses = AddressSpace::new_bus_number(0_u16, u16::from(tables::last_bus(spec)));
    let config = IO::new(0xcf8, 0xcf8, 1, 8);
    let ports = AddressSpace::new_io(*spec.io.start(), *spec.io.end(), None);
    let mmio32 = window(spec.mmio32).and_then(|(min, max)| {
        let (min, max) = (u32::try_from(min).ok()?, u32::try_from(max).ok()?);
        Some(AddressSpace::new_memory(AddressSpaceCacheable::NotCacheable, true, min, max, None))
    });
    // Not prefetchable either: an OS puts BARs of both kinds in such a window, but only one kind in the other.
    let mmio64 = window(spec.mmio64).map(|(min, max)| {
        AddressSpace::new_memory(AddressSpaceCacheable::NotCacheable, true, min, max, None)
    });
    let mut resources: Vec<&dyn Aml> = vec![&buses, &config];
    if !spec.io.is_empty() {
        resources.push(&ports);
    }
    resources.extend(mmio32.as_ref().map(|window| window as &dyn Aml));
    resources.extend(mmio64.as_ref().map(|window| window as &dyn Aml));

    let mut names = vec![
        Name::new("_HID".into(), &EISAName::new("PNP0A08")),
        Name::new("_CID".into(), &EISAName::new("PNP0A03")),
        Name::new("_UID".into(), &ZERO),
        Name::new("_SEG".into(), &ZERO),
        Name::new("_BBN".into(), &ZERO),
        Name::new("_CRS".into(), &ResourceTemplate::new(resources)),
    ];
    if !spec.intx.is_empty() {
        names.push(Name::new("_PRT".into(), &interrupt_routes(&spec.intx)));
    }
    let children = names.iter().map(|name| name as &dyn Aml).chain([&Osc as &dyn Aml]);
    bytes_of(&Device::new("PCI0".into(), children.collect()))
}

/// `_PRT` (ACPI 6.5, 6.2.13): each interrupt pin of each device is wired to a GSI, with no link device to choose one.
fn interrupt_routes(routes: &[IntxRoute]) -> PackageBuilder {
    const ALL_FUNCTIONS: u32 = 0xffff;
    let mut table = PackageBuilder::new();
    for IntxRoute { device, pin, gsi } in routes {
        let address = u32::from(*device) << 16 | ALL_FUNCTIONS;
        table.add_element(&Package::new(vec![&address, pin, &ZERO, gsi]));
    }
    table
}

/// First and last address of what is not empty.
fn window(range: GuestRange) -> Option<(u64, u64)> {
    (!range.is_empty()).then(|| (range.start, range.end() - 1))
}

/// `_OSC` of the host bridge (PCI firmware specification 4.5.1): which PCIe features the OS may drive.
///
/// Granted: native hot-plug and the PCIe capability itself, which it needs. Not granted: SHPC, PME and AER, which no
/// bridge here has, nor what came later (LTR, DPC), which needs the physical link.
struct Osc;

impl Osc {
    const UUID: &str = "33db4d5b-1ff7-401c-9657-7441c03dd766";
    const GRANTED: u32 = 1 << 0 | 1 << 4;
    const UNKNOWN_UUID: u8 = 1 << 2;
    const UNKNOWN_REVISION: u8 = 1 << 3;
    const MASKED: u8 = 1 << 4;
}

impl Aml for Osc {
    fn to_aml_bytes(&self, sink: &mut dyn AmlSink) {
        let (status, control) = (Path::new("CDW1"), Path::new("CDW3"));
        let (uuid, revision, buffer, wanted) = (Arg(0), Arg(1), Arg(3), Local(0));
        Method::new(
            "_OSC".into(),
            4,
            true,
            vec![
                &CreateDWordField::new(&status, &buffer, &ZERO),
                &If::new(
                    &Equal::new(&uuid, &Uuid::new(Self::UUID)),
                    vec![
                        &CreateDWordField::new(&control, &buffer, &8_u8),
                        &Store::new(&wanted, &control),
                        &And::new(&control, &wanted, &Self::GRANTED),
                        &If::new(
                            &NotEqual::new(&control, &wanted),
                            vec![&Or::new(&status, &status, &Self::MASKED)],
                        ),
                        &If::new(
                            &NotEqual::new(&revision, &1_u8),
                            vec![&Or::new(&status, &status, &Self::UNKNOWN_REVISION)],
                        ),
                    ],
                ),
                &Else::new(vec![&Or::new(&status, &status, &Self::UNKNOWN_UUID)]),
                &Return::new(&buffer),
            ],
        )
        .to_aml_bytes(sink);
    }
}

/// Motherboard resources. An OS uses the ECAM only where firmware reserves it (PCI firmware specification 4.1.2).
fn motherboard(ecam: GuestRange) -> Vec<u8> {
    bytes_of(&Device::new(
        "MBRD".into(),
        vec![
            &Name::new("_HID".into(), &EISAName::new("PNP0C02")),
            &Name::new("_UID".into(), &ZERO),
            &Name::new("_CRS".into(), &ResourceTemplate::new(vec![&Reserved(ecam)])),
        ],
    ))
}

/// A QWordMemory descriptor that consumes its range (ACPI 6.5, 6.4.3.5.1); those of acpi_tables are windows.
struct Reserved(GuestRange);

impl Aml for Reserved {
    fn to_aml_bytes(&self, sink: &mut dyn AmlSink) {
        const CONSUMER_MIN_FIXED_MAX_FIXED: u8 = 1 << 0 | 1 << 2 | 1 << 3;
        const READ_WRITE: u8 = 1 << 0;
        sink.byte(0x8a);
        sink.word(3 + 5 * 8);
        sink.vec(&[0, CONSUMER_MIN_FIXED_MAX_FIXED, READ_WRITE]);
        for field in [0, self.0.start, self.0.end().saturating_sub(1), 0, self.0.size] {
            sink.qword(field);
        }
    }
}

fn serial(device: IsaDevice) -> Vec<u8> {
    let ports = IO::new(device.port, device.port, 1, 8);
    let interrupt = Interrupt::new(true, true, false, false, device.gsi);
    bytes_of(&Device::new(
        "COM1".into(),
        vec![
            &Name::new("_HID".into(), &EISAName::new("PNP0501")),
            &Name::new("_UID".into(), &ZERO),
            &Name::new("_DDN".into(), &"COM1"),
            &Name::new("_CRS".into(), &ResourceTemplate::new(vec![&ports, &interrupt])),
        ],
    ))
}

fn rtc() -> Vec<u8> {
    bytes_of(&Device::new(
        "RTC0".into(),
        vec![
            &Name::new("_HID".into(), &EISAName::new("PNP0B00")),
            &Name::new("_CRS".into(), &ResourceTemplate::new(vec![&IO::new(0x70, 0x70, 1, 2)])),
        ],
    ))
}

/// The button and the event device that notifies it.
fn power_button(button: PowerButton) -> Vec<u8> {
    let mut devices = bytes_of(&Device::new(
        "PWRB".into(),
        vec![&Name::new("_HID".into(), &EISAName::new("PNP0C0C")), &Name::new("_UID".into(), &ZERO)],
    ));

    let (events, pending) = (Path::new("EVTS"), Local(0));
    let interrupt = Interrupt::new(true, true, false, false, button.gsi);
    // Not Preserve: reading clears, so nothing may read but `_EVT`.
    let field = Field::new(
        "EREG".into(),
        FieldAccessType::Byte,
        FieldLockRule::NoLock,
        FieldUpdateRule::WriteAsZeroes,
        vec![FieldEntry::Named(*b"EVTS", 8)],
    );
    devices.extend(bytes_of(&Device::new(
        "GED0".into(),
        vec![
            &Name::new("_HID".into(), &"ACPI0013"),
            &Name::new("_UID".into(), &ZERO),
            &Name::new("_CRS".into(), &ResourceTemplate::new(vec![&interrupt])),
            &OpRegion::new("EREG".into(), OpRegionSpace::SystemIO, &button.events, &1_u8),
            &field,
            &Method::new(
                "_EVT".into(),
                1,
                true,
                vec![
                    &Store::new(&pending, &events),
                    &If::new(
                        &And::new(&ZERO, &pending, &POWER_BUTTON_EVENT),
                        vec![&Notify::new(&Path::new("PWRB"), &0x80_u8)],
                    ),
                ],
            ),
        ],
    )));
    devices
}
