//! Handing a device over and giving it back, step by step. After each step, and after an end at any of them, the device
//! is in a state from which either way leads on: what it was like is written down before anything is changed, and
//! forgotten when everything is as it was.

use super::BindError;
use super::driver::Slot;
use super::record::Record;
use crate::sysfs::is_vfio_driver;

/// The driver that hands devices out.
pub(super) const VFIO_PCI: &str = "vfio-pci";

/// What a device is, as far as it matters whose record it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) vendor: u16,
    pub(super) device: u16,
}

/// Binds a device to vfio-pci. Returns the driver it had, and whether anything was done. A refusal leaves it as it was.
pub(super) fn hand_over(slot: &impl Slot, identity: Identity) -> Result<(Option<String>, bool), BindError> {
    let driver = slot.driver();
    let known = known(slot, identity);
    if driver.as_deref().is_some_and(is_vfio_driver) {
        return Ok((known.and_then(|record| record.driver).or(driver), false));
    }
    let record = match known {
        // Interrupted earlier: the driver is off, or about to be taken off.
        Some(record) if driver.is_none() || driver == record.driver => record,
        _ => {
            // Left by whoever was interrupted before us, and not what it was like.
            let mine = |name: &String| !is_vfio_driver(name);
            let driver_override = slot.driver_override()?.filter(mine);
            let Identity { vendor, device } = identity;
            let record = Record { vendor, device, driver: driver.clone(), driver_override };
            slot.write_record(&record)?;
            record
        }
    };
    let taken = slot
        .set_override(Some(VFIO_PCI))
        .and_then(|()| driver.as_deref().map_or(Ok(()), |driver| slot.detach(driver)))
        .and_then(|()| slot.attach(VFIO_PCI));
    match taken {
        // Somebody else may have been quicker.
        Err(error) if slot.driver().as_deref() != Some(VFIO_PCI) => {
            if let Err(error) = restore(slot, Some(&record)) {
                tracing::warn!(%error, "the device could not be given back to its driver");
            }
            Err(error)
        }
        _ => Ok((record.driver, true)),
    }
}

/// Gives a device back to the driver it had. Returns the driver it has now, and whether anything was done.
pub(super) fn give_back(slot: &impl Slot, identity: Identity) -> Result<(Option<String>, bool), BindError> {
    let record = known(slot, identity);
    let ours = slot.driver_override()?.is_some_and(|name| is_vfio_driver(&name));
    let driver = slot.driver();
    let nothing = record.is_none() && !ours && driver.as_deref().is_some_and(|name| !is_vfio_driver(name));
    if !nothing {
        restore(slot, record.as_ref())?;
    }
    Ok((slot.driver(), !nothing))
}

/// The driver override first: with ours in place no other driver could come back.
fn restore(slot: &impl Slot, record: Option<&Record>) -> Result<(), BindError> {
    slot.set_override(record.and_then(|record| record.driver_override.as_deref()))?;
    let mut driver = slot.driver();
    if let Some(vfio) = driver.as_deref().filter(|name| is_vfio_driver(name)) {
        slot.detach(vfio)?;
        driver = None;
    }
    match record {
        _ if driver.is_some() => {}
        Some(Record { driver: Some(former), .. }) => slot.attach(former)?,
        Some(Record { driver: None, .. }) => {}
        None => slot.probe()?,
    }
    // Of a device that was here before, too.
    slot.remove_record()
}

fn known(slot: &impl Slot, Identity { vendor, device }: Identity) -> Option<Record> {
    slot.record().filter(|record| (record.vendor, record.device) == (vendor, device))
}

#[cfg(test)]
#[path = "steps_test.rs"]
mod tests;
