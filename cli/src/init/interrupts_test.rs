use super::*;

#[test]
fn the_table_is_read() {
    let table = "           CPU0       CPU1       
   4:        308          0   IO-APIC   4-edge      ttyS0
  24:         12         30  PCI-MSIX-0000:00:04.0    0-edge      nvme0q0
 NMI:          0          0   Non-maskable interrupts
 ERR:          0
  25:  x 0 bad
  26:          1
";
    let interrupts = parse(table);
    assert_eq!(interrupts.keys().copied().collect::<Vec<_>>(), [4, 24, 26]);
    assert_eq!(interrupts[&24].counts, [12, 30]);
    assert_eq!(interrupts[&24].total(), 42);
    assert_eq!(interrupts[&24].label, "PCI-MSIX-0000:00:04.0 0-edge nvme0q0");
    assert_eq!(interrupts[&26].counts, [1]);
    assert!(parse("").is_empty());
}
