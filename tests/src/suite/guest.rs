//! Root file systems for guests: busybox and a script that is all the guest does.

use crate::cpio::Archive;
use crate::host::{HostError, guest_base};
use crate::setup::Artefacts;

/// For guests whose kernel's messages nobody asks for: each byte of them is an exit, which emulation makes dear. Errors
/// are still told.
pub(crate) const QUIET: &str = r"--cmdline console=ttyS0\ quiet";

/// What every guest does first. Slices are what they are in the host (`agent`).
const PRELUDE: &str = "#!/bin/sh\n\
    mount -t proc proc /proc\n\
    mount -t sysfs sysfs /sys\n\
    mount -t devtmpfs devtmpfs /dev\n\
    mount -t debugfs debugfs /sys/kernel/debug 2>/dev/null && echo NO_HRTICK 2>/dev/null >/sys/kernel/debug/sched/features\n\
    exec </dev/console >/dev/console 2>&1\n";

/// An initramfs that is being put together.
pub(crate) struct GuestInitrd {
    archive: Archive<Vec<u8>>,
}

impl GuestInitrd {
    /// busybox, with proc, sys and dev mounted when `script` starts. The guest ends when the script says so,
    /// with `poweroff -f` or `reboot -f`; a script that just ends makes the kernel panic.
    pub(crate) fn with_script(artefacts: &Artefacts, script: &str) -> Result<GuestInitrd, HostError> {
        let mut initrd = GuestInitrd { archive: guest_base(Vec::new(), artefacts)? };
        initrd.put("init", format!("{PRELUDE}{script}\n").as_bytes())?;
        Ok(initrd)
    }

    /// Adds a file; `path` is relative to the root, its directory one that is there.
    pub(crate) fn file(mut self, path: &str, content: &[u8]) -> Result<GuestInitrd, HostError> {
        self.put(path, content)?;
        Ok(self)
    }

    /// The archive.
    pub(crate) fn build(self) -> Result<Vec<u8>, HostError> {
        self.archive
            .finish()
            .map_err(|source| HostError::Local { action: "write a guest's initramfs", source })
    }

    fn put(&mut self, path: &str, content: &[u8]) -> Result<(), HostError> {
        let written = self.archive.file(path, 0o755, content);
        written.map_err(|source| HostError::Local { action: "write a guest's initramfs", source })
    }
}
