//! Devices in a doubtful state: what is known to be wrong with them since a guest had them, for whoever has them next.
//! Kept below /run/vmm/marks, as far as we may write there.

use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, Sender, channel};

use devices::pci::PciAddress;
use serde::{Deserialize, Serialize};

use crate::store::Store;
use crate::sysfs::{Host, HostDevice};

/// A device's mark.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mark {
    /// Vendor ID. Another device may come into the slot.
    vendor: u16,
    /// Device ID.
    device: u16,
    /// What is wrong.
    what: String,
}

/// A mark that is to be set, and where to say that it is.
struct Wish {
    host: Host,
    address: PciAddress,
    what: Option<String>,
    done: Sender<()>,
}

/// Whoever sets marks for threads that may not write files: those of vCPUs, on which guests reset devices.
static KEEPER: OnceLock<Option<Sender<Wish>>> = OnceLock::new();

/// From now on marks are set by a thread of their own. To be called where files may be written.
pub(crate) fn keep() {
    KEEPER.get_or_init(|| {
        let (wishes, waiting): (_, Receiver<Wish>) = channel();
        let set = move || {
            for Wish { host, address, what, done } in waiting {
                host.write_mark(address, what.as_deref());
                // Whoever asked may not wait any more.
                let _ = done.send(());
            }
        };
        let thread = std::thread::Builder::new().name("marks".to_owned()).spawn(set);
        thread.inspect_err(|error| tracing::debug!(%error, "marks are set where devices are reset")).ok()?;
        Some(wishes)
    });
}

impl Host {
    /// What is known to be wrong with a device since a guest had it.
    pub fn mark(&self, device: &HostDevice) -> Option<String> {
        let mark = self.marks().read(device.address)?;
        ((mark.vendor, mark.device) == (device.vendor, device.device)).then_some(mark.what)
    }

    /// Says so of a device; `None` when nothing is wrong with it any more.
    pub(crate) fn set_mark(&self, address: PciAddress, what: Option<&str>) {
        let Some(Some(keeper)) = KEEPER.get() else { return self.write_mark(address, what) };
        let (done, heard) = channel();
        let wish = Wish { host: self.clone(), address, what: what.map(str::to_owned), done };
        if keeper.send(wish).is_ok() {
            // It hangs up if it is gone.
            let _ = heard.recv();
        }
    }

    fn write_mark(&self, address: PciAddress, what: Option<&str>) {
        let marks = self.marks();
        let done = match (what, self.find(address)) {
            (Some(what), Ok(HostDevice { vendor, device, .. })) => marks
                .create()
                .and_then(|()| marks.write(address, &Mark { vendor, device, what: what.to_owned() })),
            _ => marks.remove(address),
        };
        let directory = marks.directory().display();
        match (done, what) {
            (Ok(()), _) => {}
            // Nobody else says this later.
            (Err(error), Some(what)) => {
                tracing::warn!(%address, what, %directory, %error, "the device cannot be marked: `vmm devices` will not tell");
            }
            (Err(error), None) => {
                tracing::debug!(%address, %directory, %error, "the mark cannot be taken back")
            }
        }
    }

    fn marks(&self) -> Store<Mark> {
        Store::new(self, "marks")
    }
}

#[cfg(test)]
#[path = "mark_test.rs"]
mod tests;
