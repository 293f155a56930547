//! How many interrupts of devices the host has taken for their guests, by the names that vfio-pci gives them in /proc/interrupts
//! (drivers/vfio/pci/vfio_pci_intrs.c). What hardware delivers to a vCPU itself (posted interrupts) is not among them.

use devices::pci::PciAddress;

use crate::sysfs::Host;
use crate::text;

impl Host {
    /// For each of these devices, since it was opened.
    pub fn interrupts(&self, devices: &[PciAddress]) -> Vec<u64> {
        let mut counts = vec![0; devices.len()];
        if !devices.is_empty() {
            count(&text::read_or_empty(&self.proc.join("interrupts")), devices, &mut counts);
        }
        counts
    }
}

/// ` 45:  12  3  IR-PCI-MSIX-0000:01:00.0  0-edge  vfio-msix[0](0000:01:00.0)`: a count for each CPU.
fn count(interrupts: &str, devices: &[PciAddress], counts: &mut [u64]) {
    for line in interrupts.lines() {
        let Some((_, name)) = line.rsplit_once("vfio-") else { continue };
        let address = name.split_once('(').and_then(|(_, rest)| rest.split_once(')')?.0.parse().ok());
        let index = devices.iter().position(|device| Some(*device) == address);
        let Some(count) = index.and_then(|index| counts.get_mut(index)) else { continue };
        let figures = line.split_whitespace().skip(1).map_while(|word| word.parse::<u64>().ok());
        *count = figures.fold(*count, u64::saturating_add);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERRUPTS: &str = "            CPU0       CPU1\n   4:  7  0  IR-IO-APIC   4-edge      ttyS0\n  \
         45:  12  3  IR-PCI-MSIX-0000:01:00.0   0-edge      vfio-msix[0](0000:01:00.0)\n  \
         46:  1  0  IR-PCI-MSIX-0000:01:00.0   1-edge      vfio-msix[1](0000:01:00.0)\n  \
         47:  5  5  IR-PCI-MSI-0000:02:00.0   0-edge      vfio-msi[0](0000:02:00.0)\n  \
         16:  9  0  IR-IO-APIC  16-fasteoi   uhci, vfio-intx(0000:03:00.0)\n NMI:  3  4  Non-maskable interrupts\n";

    #[test]
    fn each_device_has_its_interrupts() {
        let devices = ["01:00.0", "02:00.0", "03:00.0", "04:00.0"].map(|address| address.parse().unwrap());
        let mut counts = vec![0; 4];
        count(INTERRUPTS, &devices, &mut counts);
        assert_eq!(counts, [16, 10, 9, 0]);
    }

    #[test]
    fn takes_any_text() {
        let devices = ["0000:01:00.0".parse().unwrap()];
        for text in
            ["vfio-", "vfio-(", "1: vfio-x(0000:01:00.0", "1: -5 vfio-x(0000:01:00.0)", "x vfio-x(\u{e9})"]
        {
            let mut counts = vec![0];
            count(text, &devices, &mut counts);
            assert_eq!(counts, [0], "{text}");
        }
        let mut counts = vec![u64::MAX];
        count("1: 5 vfio-x(0000:01:00.0)", &devices, &mut counts);
        assert_eq!(counts, [u64::MAX]);
    }
}
