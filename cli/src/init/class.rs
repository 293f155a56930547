//! Names for PCI class codes, after the PCI Code and ID Assignment Specification, section 1.

/// Name of a 24-bit class code (base class, subclass, programming interface), the most specific one known.
pub(crate) fn name(code: u32) -> &'static str {
    let exact = match code {
        0x01_0601 => Some("AHCI controller"),
        0x01_0802 => Some("NVMe controller"),
        0x0c_0310 => Some("OHCI USB controller"),
        0x0c_0320 => Some("EHCI USB controller"),
        0x0c_0330 => Some("XHCI USB controller"),
        _ => None,
    };
    exact.or_else(|| subclass(code >> 8)).unwrap_or_else(|| base(code >> 16))
}

fn subclass(code: u32) -> Option<&'static str> {
    Some(match code {
        0x0100 => "SCSI controller",
        0x0101 => "IDE controller",
        0x0104 => "RAID controller",
        0x0106 => "SATA controller",
        0x0107 => "SAS controller",
        0x0108 => "non-volatile memory controller",
        0x0109 => "UFS controller",
        0x0200 => "Ethernet controller",
        0x0207 => "InfiniBand controller",
        0x0300 => "VGA controller",
        0x0302 => "3D controller",
        0x0401 => "audio device",
        0x0403 => "HD audio device",
        0x0502 => "CXL memory",
        0x0600 => "host bridge",
        0x0601 => "ISA bridge",
        0x0604 => "PCI bridge",
        0x0700 => "serial controller",
        0x0805 => "SD host controller",
        0x0806 => "IOMMU",
        0x0c03 => "USB controller",
        0x0c05 => "SMBus controller",
        _ => return None,
    })
}

fn base(code: u32) -> &'static str {
    match code {
        0x00 => "unclassified device",
        0x01 => "storage controller",
        0x02 => "network controller",
        0x03 => "display controller",
        0x04 => "multimedia device",
        0x05 => "memory controller",
        0x06 => "bridge",
        0x07 => "communication controller",
        0x08 => "system peripheral",
        0x09 => "input device",
        0x0b => "processor",
        0x0c => "serial bus controller",
        0x0d => "wireless controller",
        0x10 => "encryption controller",
        0x11 => "signal processing controller",
        0x12 => "processing accelerator",
        _ => "device of unknown class",
    }
}

#[cfg(test)]
#[path = "class_test.rs"]
mod tests;
