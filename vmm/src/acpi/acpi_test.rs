use std::path::PathBuf;
use std::process::{Command, Output};

use super::*;

impl AcpiSpec {
    /// A machine with everything.
    pub(crate) fn example() -> Self {
        Self {
            apic_ids: (0..4).collect(),
            ioapic: IoApic { id: 0, address: 0xfec0_0000 },
            ecam: GuestRange::new(0xc000_0000, 256 << 20),
            mmio32: GuestRange::new(0xd000_0000, 0x2e00_0000),
            mmio64: GuestRange::new(0x40_0000_0000, 0x40_0000_0000),
            io: 0x1000..=0xffff,
            intx: (0..128)
                .map(|n| IntxRoute { device: n / 4, pin: n % 4, gsi: 16 + (n / 4 + n % 4) % 8 })
                .collect(),
            sleep: SleepPorts { control: 0x600, status: 0x601 },
            reset: ResetPort { port: 0x602, value: 1 },
            serial: Some(IsaDevice { port: 0x3f8, gsi: 4 }),
            rtc: true,
            memory: Some(Memory {
                ram: vec![(GuestRange::new(0, 512 << 20), 0)],
                pluggable: Some(GuestRange::new(4 << 30, 4 << 30)),
                cpus: Vec::new(),
                nodes: 1,
            }),
            viot: Some(Viot {
                iommu: function(9, 0),
                endpoints: vec![function(1, 0), function(1, 1), function(3, 0)],
            }),
            power_button: Some(PowerButton { gsi: 5, events: 0x603 }),
        }
    }

    fn least() -> Self {
        Self {
            apic_ids: vec![0],
            mmio32: GuestRange::new(0, 0),
            mmio64: GuestRange::new(0, 0),
            io: RangeInclusive::new(1, 0),
            intx: Vec::new(),
            serial: None,
            rtc: false,
            memory: None,
            viot: None,
            power_button: None,
            ..Self::example()
        }
    }

    fn largest() -> Self {
        Self { apic_ids: (0..1024).collect(), ..Self::example() }
    }
}

fn function(device: u8, function: u8) -> PciAddress {
    PciAddress { segment: 0, bus: 0, device, function }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap())
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

/// The table at a guest physical address, of the length it says.
fn table(tables: &AcpiTables, address: u64) -> &[u8] {
    let bytes = &tables.bytes()[(address - tables.rsdp()) as usize..];
    let table = &bytes[..u32_at(bytes, 4) as usize];
    assert_eq!(sum(table), 0, "checksum of {}", String::from_utf8_lossy(&table[..4]));
    table
}

/// Every table that the RSDP leads to, XSDT and DSDT included.
fn all(tables: &AcpiTables) -> Vec<(&str, &[u8])> {
    let rsdp = &tables.bytes()[..36];
    assert_eq!(&rsdp[..8], b"RSD PTR ");
    assert_eq!((sum(&rsdp[..20]), sum(rsdp), u32_at(rsdp, 20)), (0, 0, 36));
    let xsdt = table(tables, u64_at(rsdp, 24));
    let mut found = vec![xsdt];
    for entry in xsdt[36..].chunks(8) {
        found.push(table(tables, u64_at(entry, 0)));
    }
    let fadt = found.iter().find(|table| table.starts_with(b"FACP")).unwrap();
    found.push(table(tables, u64_at(fadt, 140)));
    found.into_iter().map(|table| (std::str::from_utf8(&table[..4]).unwrap(), table)).collect()
}

#[test]
fn pointers_lengths_and_checksums_hold() {
    for spec in [AcpiSpec::example(), AcpiSpec::least(), AcpiSpec::largest()] {
        let tables = AcpiTables::build(&spec).unwrap();
        let names: Vec<_> = all(&tables).into_iter().map(|(name, _)| name).collect();
        let srat = spec.memory.as_ref().map(|_| "SRAT");
        let viot = spec.viot.as_ref().map(|_| "VIOT");
        let fixed = ["XSDT", "FACP", "APIC", "MCFG"].into_iter();
        let expected: Vec<_> = fixed.chain(srat).chain(viot).chain(["DSDT"]).collect();
        assert_eq!(names, expected);
        assert!(tables.rsdp() + tables.bytes().len() as u64 <= map::ACPI.end());
    }
}

#[test]
fn too_many_cpus_is_an_error() {
    let spec = AcpiSpec { apic_ids: (0..10_000).collect(), ..AcpiSpec::example() };
    assert!(matches!(AcpiTables::build(&spec), Err(AcpiError::TooLarge { room: 0x2_0000, .. })));
}

#[test]
fn the_fadt_is_hardware_reduced() {
    let tables = AcpiTables::build(&AcpiSpec::example()).unwrap();
    let (_, fadt) = all(&tables)[1];
    let flags = u32_at(fadt, 112);
    assert_eq!(flags & (1 << 20 | 1 << 10), 1 << 20 | 1 << 10);
    // Serial port but no 8042, no VGA; the RTC is there.
    assert_eq!(fadt[109], 0b01_0101);
    let register = |at: usize| (fadt[at], fadt[at + 1], fadt[at + 3], u64_at(fadt, at + 4));
    assert_eq!(register(116), (1, 8, 1, 0x602));
    assert_eq!(fadt[128], 1);
    assert_eq!(register(244), (1, 8, 1, 0x600));
    assert_eq!(register(256), (1, 8, 1, 0x601));

    let tables = AcpiTables::build(&AcpiSpec::least()).unwrap();
    assert_eq!(all(&tables)[1].1[109], 0b11_0100);
}

#[test]
fn the_srat_lists_cpus_ram_and_what_can_be_plugged_in() {
    let tables = AcpiTables::build(&AcpiSpec { apic_ids: vec![1, 1000], ..AcpiSpec::example() }).unwrap();
    let (_, srat) = all(&tables)[4];
    assert_eq!((srat[36], srat.len()), (1, 48 + 16 + 24 + 2 * 40));
    assert_eq!(
        (&srat[48..52], &srat[64..66], u32_at(srat, 64 + 8)),
        (&[0, 16, 0, 1][..], &[2, 24][..], 1000)
    );
    let memory = |at: usize| (srat[at], u64_at(srat, at + 8), u64_at(srat, at + 16), u32_at(srat, at + 28));
    assert_eq!(memory(88), (1, 0, 512 << 20, 1));
    assert_eq!(memory(128), (1, 4 << 30, 4 << 30, 3));
}

#[test]
fn the_viot_leads_from_functions_to_their_iommu() {
    let tables = AcpiTables::build(&AcpiSpec::example()).unwrap();
    let (name, viot) = all(&tables)[5];
    assert_eq!((name, viot.len(), u16_at(viot, 36), u16_at(viot, 38)), ("VIOT", 48 + 16 + 3 * 24, 4, 48));
    assert_eq!(viot[48..64], [3, 0, 16, 0, 0, 0, 9 << 3, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let second = &viot[64 + 24..64 + 48];
    assert_eq!((second[0], second[2], u32_at(second, 4)), (1, 24, 1 << 3 | 1));
    let (first, last) = (u16_at(second, 12), u16_at(second, 14));
    assert_eq!((u32_at(second, 8), first, last, u16_at(second, 16)), (0, 9, 9, 48));
}

#[test]
fn nodes_are_told_and_how_far_they_are_from_each_other() {
    let memory = Memory {
        ram: vec![(GuestRange::new(0, 1 << 30), 0), (GuestRange::new(1 << 30, 1 << 30), 1)],
        pluggable: None,
        cpus: vec![1, 0, 1],
        nodes: 2,
    };
    let spec = AcpiSpec { apic_ids: vec![0, 1, 1000], memory: Some(memory), ..AcpiSpec::example() };
    let tables = AcpiTables::build(&spec).unwrap();
    let tables = all(&tables);
    let named = |name: &str| tables.iter().find(|(it, _)| *it == name).unwrap().1;
    let srat = named("SRAT");
    assert_eq!(srat.len(), 48 + 2 * 16 + 24 + 2 * 40);
    assert_eq!((&srat[48..52], &srat[64..68]), (&[0, 16, 0, 1][..], &[0, 16, 1, 0][..]));
    assert_eq!((u32_at(srat, 80 + 4), u32_at(srat, 80 + 8)), (1, 1000));
    let memory = |at: usize| (u32_at(srat, at + 2), u64_at(srat, at + 8), u32_at(srat, at + 28));
    assert_eq!((memory(104), memory(144)), ((0, 0, 1), (1, 1 << 30, 1)));
    let slit = named("SLIT");
    assert_eq!((slit.len(), u64_at(slit, 36), &slit[44..]), (48, 2, &[10, 20, 20, 10][..]));
}

#[test]
fn the_madt_lists_cpus_and_the_ioapic() {
    let tables =
        AcpiTables::build(&AcpiSpec { apic_ids: vec![0, 2, 254, 255, 1000], ..AcpiSpec::example() }).unwrap();
    let (_, madt) = all(&tables)[2];
    assert_eq!((u32_at(madt, 36), u32_at(madt, 40)), (0xfee0_0000, 0));
    let mut entries = &madt[44..];
    let mut found = Vec::new();
    while let [kind, size, ..] = *entries {
        found.push((kind, &entries[..usize::from(size)]));
        entries = &entries[usize::from(size)..];
    }
    let kinds: Vec<u8> = found.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, [0, 0, 0, 9, 9, 1]);
    assert_eq!(found[1].1, [0, 8, 2, 2, 1, 0, 0, 0]);
    assert_eq!(found[4].1, [9, 16, 0, 0, 0xe8, 3, 0, 0, 1, 0, 0, 0, 0xe8, 3, 0, 0]);
    assert_eq!(found[5].1, [1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0]);
}

#[test]
fn the_mcfg_names_the_ecam() {
    let tables = AcpiTables::build(&AcpiSpec::example()).unwrap();
    let (_, mcfg) = all(&tables)[3];
    assert_eq!((mcfg.len(), u64_at(mcfg, 44), &mcfg[52..56]), (60, 0xc000_0000, &[0, 0, 0, 255][..]));
}

fn iasl(args: &[&str], dir: &tempfile::TempDir) -> (Output, String) {
    let output = Command::new("iasl").args(args).current_dir(dir.path()).output().unwrap_or_else(|error| {
        panic!("cannot run iasl ({error}): install the package acpica-tools (apt-get install acpica-tools)")
    });
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output, text)
}

#[test]
fn iasl_accepts_every_table() {
    for spec in [AcpiSpec::example(), AcpiSpec::least(), AcpiSpec::largest()] {
        let tables = AcpiTables::build(&spec).unwrap();
        // iasl knows a VIOT since its version of September 2021.
        for (name, table) in all(&tables).into_iter().filter(|(name, _)| *name != "VIOT") {
            let dir = tempfile::tempdir().unwrap();
            let file = |extension: &str| -> PathBuf { dir.path().join(format!("{name}.{extension}")) };
            std::fs::write(file("aml"), table).unwrap();
            let (output, text) = iasl(&["-d", &format!("{name}.aml")], &dir);
            assert!(output.status.success(), "{name}: {text}");
            let source = std::fs::read_to_string(file("dsl")).unwrap();
            for complaint in ["Warning", "Error", "Invalid", "Unknown"] {
                assert!(!text.contains(complaint) && !source.contains(complaint), "{name}: {text}\n{source}");
            }
            let (output, text) = iasl(&["-we", "-p", "again", &format!("{name}.dsl")], &dir);
            assert!(output.status.success(), "{name}: {text}\n{source}");
            if name == "DSDT" {
                assert!(text.contains("0 Errors, 0 Warnings, 0 Remarks"), "{text}\n{source}");
                let again = std::fs::read(dir.path().join("again.aml")).unwrap();
                if !spec.intx.is_empty() {
                    let entry = "Package (0x04)\n                {\n                    0x001FFFFF, \n                    \
                                 0x03, \n                    Zero, \n                    0x12\n";
                    let lines = |text: &str| text.lines().map(str::trim).collect::<Vec<_>>().join(" ");
                    assert!(lines(&source).contains(&lines(entry)), "{source}");
                }
                // Creator and checksum are iasl's own.
                assert_eq!(again[36..], table[36..], "{source}");
            }
        }
    }
}
