//! The PCI functions of this machine.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::access::Window;

const FUNCTIONS: &str = "/sys/bus/pci/devices";
/// The command register, and its bits for memory space and bus mastering.
const COMMAND: u64 = 4;
pub(crate) const MEMORY_AND_MASTER: u16 = 6;

/// Vendor and device of a function.
pub(crate) type Identity = (u16, u16);
pub(crate) const WATCHDOG: Identity = (0x8086, 0x25ab);
pub(crate) const PVPANIC: Identity = (0x1b36, 0x0011);

/// A PCI function by what sysfs says of it.
pub(crate) struct Function {
    /// Its number on bus 0.
    pub(crate) device: u32,
    pub(crate) identity: Identity,
    config: File,
    /// Index, address and size of its memory BARs.
    pub(crate) bars: Vec<(usize, u64, u64)>,
}

impl Function {
    pub(crate) fn is_virtio(&self) -> bool {
        self.identity.0 == 0x1af4 && self.identity.1 >= 0x1040
    }

    /// Whether it is the monitor that answers for its BARs.
    pub(crate) fn is_emulated(&self) -> bool {
        self.is_virtio() || [WATCHDOG, PVPANIC].contains(&self.identity)
    }

    /// Memory space and bus master, which the kernel may have taken from a function without a driver; and other bits as given.
    pub(crate) fn command(&self, bits: u16) {
        self.set_config(COMMAND, 2, (MEMORY_AND_MASTER | bits).into());
    }

    pub(crate) fn set_config(&self, at: u64, width: usize, value: u64) {
        self.config.write_all_at(&value.to_le_bytes()[..width], at).unwrap();
    }

    /// The 256 bytes of its configuration space that PCI knows.
    pub(crate) fn space(&self) -> [u8; 256] {
        let mut space = [0; 256];
        self.config.read_exact_at(&mut space, 0).unwrap();
        space
    }

    /// Where its capabilities with this number are.
    pub(crate) fn capabilities(&self, number: u8) -> Vec<usize> {
        let space = self.space();
        let (mut at, mut found) = (usize::from(space[0x34]), Vec::new());
        while at != 0 {
            if space[at] == number {
                found.push(at);
            }
            at = space[at + 1].into();
        }
        found
    }

    /// A whole BAR.
    pub(crate) fn bar(&self, number: usize) -> Window {
        let (_, start, size) = *self.bars.iter().find(|(index, ..)| *index == number).unwrap();
        Window::map(start, size)
    }
}

pub(crate) fn functions() -> Vec<Function> {
    let mut paths: Vec<_> = fs::read_dir(FUNCTIONS).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| function(path)).collect()
}

fn function(path: &Path) -> Function {
    let hex = |text: &str| u64::from_str_radix(text.trim().trim_start_matches("0x"), 16).unwrap();
    let number = |file: &str| hex(&fs::read_to_string(path.join(file)).unwrap()) as u16;
    let resources = fs::read_to_string(path.join("resource")).unwrap();
    let bars = resources.lines().take(6).enumerate().filter_map(|(index, line)| {
        let [start, end, flags] = line.split(' ').map(hex).collect::<Vec<_>>()[..] else { panic!("{line}") };
        // IORESOURCE_MEM
        (flags & 0x200 != 0).then_some((index, start, end + 1 - start))
    });
    let address = path.file_name().unwrap().to_string_lossy().into_owned();
    let device = address.rsplit([':', '.']).nth(1).map_or(0, |device| hex(device) as u32);
    let config: PathBuf = path.join("config");
    Function {
        device,
        identity: (number("vendor"), number("device")),
        config: OpenOptions::new().read(true).write(true).open(config).unwrap(),
        bars: bars.collect(),
    }
}
