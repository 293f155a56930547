//! The guests: a few instructions in 32-bit protected mode, as an ELF kernel and as bare code. Each writes a byte to the
//! first serial port before anything else, by which it is seen to run.

use std::fs;
use std::path::{Path, PathBuf};

use crate::files::{During, FileError};
use crate::suite::tiny_kernel;

/// `mov dx, 0x3f8; mov al, '!'; out dx, al`
const SAY: [u8; 7] = [0x66, 0xba, 0xf8, 0x03, 0xb0, b'!', 0xee];
/// `mov al, 0x10; out 0xf4, al; hlt`
const EXIT: [u8; 5] = [0xb0, 0x10, 0xe6, 0xf4, 0xf4];
/// `cli; hlt; jmp $ - 2`
const IDLE: [u8; 4] = [0xfa, 0xf4, 0xeb, 0xfc];
/// What the process ends with when the guest writes 0x10 to the debug-exit port.
pub(super) const STATUS: i32 = 0x10 << 1 | 1;

/// A guest, as files.
pub(super) struct Guest {
    /// An ELF kernel with a PVH entry.
    pub(super) kernel: PathBuf,
    /// Its code alone.
    pub(super) code: PathBuf,
}

impl Guest {
    /// One that says that it runs and ends.
    pub(super) fn brief(directory: &Path) -> Result<Guest, FileError> {
        write(directory, "brief", &[&SAY[..], &EXIT].concat())
    }

    /// One that says that it runs and then never does anything.
    pub(super) fn idle(directory: &Path) -> Result<Guest, FileError> {
        write(directory, "idle", &[&SAY[..], &IDLE].concat())
    }
}

fn write(directory: &Path, name: &str, code: &[u8]) -> Result<Guest, FileError> {
    fs::create_dir_all(directory).during("create", directory)?;
    let guest =
        Guest { kernel: directory.join(format!("{name}.elf")), code: directory.join(format!("{name}.code")) };
    fs::write(&guest.kernel, tiny_kernel(code)).during("write", &guest.kernel)?;
    fs::write(&guest.code, code).during("write", &guest.code)?;
    Ok(guest)
}
