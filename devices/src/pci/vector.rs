//! What MSI and MSI-X share: interrupt vectors that get their host resources when first needed.

use std::io;
use std::slice;
use std::sync::Arc;

use vmm_sys_util::eventfd::EventFd;

use crate::eventfd;
use crate::irq::{InterruptController, MsiMessage, MsiVector};

/// Whoever raises a function's interrupts: hardware behind VFIO, or an emulated device.
///
/// Called with the capability's lock held: it must not call back into [`Msix`](super::Msix) or [`Msi`](super::Msi).
pub trait VectorBackend: Send + Sync {
    /// The guest turned the capability on, with all vectors masked so far. Devices and their firmware may look at that,
    /// before any vector is unmasked. What fails here fails again, and is said, when a vector is connected.
    fn enable(&self) -> io::Result<()> {
        Ok(())
    }
    /// From now on raise each of these vectors by signalling its trigger. Vectors ascend; each comes once, when the guest first
    /// unmasks it, and again only after [`VectorBackend::disconnect_all`], or if this failed: any of them may be
    /// connected then, and they are tried again one by one.
    fn connect(&self, vectors: &[(u16, &EventFd)]) -> io::Result<()>;
    /// Raise nothing any more: the guest turned the capability off, or it was reset. Called only after
    /// [`VectorBackend::enable`] or [`VectorBackend::connect`]. The triggers are closed afterwards.
    fn disconnect_all(&self);
    /// Whose interrupts they are, for messages.
    fn owner(&self) -> String {
        "an emulated device".to_owned()
    }
}

/// The vectors of one capability. Message `None` is masked; a vector costs nothing before its first message.
pub(super) struct Vectors {
    kind: &'static str,
    controller: Arc<dyn InterruptController>,
    backend: Arc<dyn VectorBackend>,
    slots: Vec<Slot>,
    /// The capability is on for the backend, and any may be connected.
    connected: bool,
    complained: bool,
}

#[derive(Default)]
struct Slot {
    vector: Option<Arc<dyn MsiVector>>,
    message: Option<MsiMessage>,
}

/// A vector that stays silent, the step that failed, and how.
type Failure = (u16, &'static str, io::Error);

impl Vectors {
    pub(super) fn new(
        kind: &'static str,
        count: u16,
        controller: Arc<dyn InterruptController>,
        backend: Arc<dyn VectorBackend>,
    ) -> Self {
        let slots = std::iter::repeat_with(Slot::default).take(count.into()).collect();
        Self { kind, controller, backend, slots, connected: false, complained: false }
    }

    /// The capability was turned on.
    pub(super) fn enable(&mut self) {
        self.connected = true;
        if let Err(error) = self.backend.enable() {
            let (device, kind) = (self.backend.owner(), self.kind);
            tracing::debug!(device, kind, %error, "cannot be turned on before a vector is used");
        }
    }

    /// Gives vectors (ascending) their messages, or masks them. One that fails stays silent and is tried again next
    /// time.
    pub(super) fn set(&mut self, messages: impl IntoIterator<Item = (u16, Option<MsiMessage>)>) {
        let mut failures = Vec::new();
        let (mut changes, mut fresh) = (Vec::new(), Vec::new());
        for (index, message) in messages {
            let Some(slot) = self.slots.get_mut(usize::from(index)) else { continue };
            if slot.message == message {
                continue;
            }
            if slot.vector.is_none() {
                match self.controller.msi_vector() {
                    Ok(vector) => slot.vector = Some(vector),
                    Err(error) => {
                        failures.push((index, "allocate", error));
                        continue;
                    }
                }
                fresh.push(index);
            }
            changes.push((index, message));
        }
        // Messages first: an interrupt that comes as soon as it is connected then has somewhere to go.
        self.set_messages(&changes, &mut failures);
        for index in &fresh {
            // Without a message it would never be connected: the next try is to begin anew.
            if let Some(slot) = self.slots.get_mut(usize::from(*index)).filter(|slot| slot.message.is_none())
            {
                *slot = Slot::default();
            }
        }
        self.connect(&fresh, &mut failures);
        self.complain(&failures);
    }

    fn slot(&self, index: u16) -> Option<&Slot> {
        self.slots.get(usize::from(index))
    }

    fn set_messages(&mut self, changes: &[(u16, Option<MsiMessage>)], failures: &mut Vec<Failure>) {
        let number = |index| Some(self.slot(index)?.vector.as_ref()?.number());
        let batch: Vec<_> =
            changes.iter().filter_map(|(index, message)| Some((number(*index)?, *message))).collect();
        let together = !batch.is_empty() && self.controller.set_messages(&batch).is_ok();
        for (index, message) in changes {
            let Some(slot) = self.slots.get_mut(usize::from(*index)) else { continue };
            let alone = || slot.vector.as_ref().map_or(Ok(()), |vector| change(&**vector, *message));
            let outcome = if together { Ok(()) } else { alone() };
            slot.message = message.filter(|_| outcome.is_ok());
            if let Err(error) = outcome {
                failures.push((*index, "set message", error));
            }
        }
    }

    /// Connects vectors, and lets go of those that cannot be.
    fn connect(&mut self, fresh: &[u16], failures: &mut Vec<Failure>) {
        let trigger = |index: u16| Some((index, self.slot(index)?.vector.as_ref()?.eventfd()));
        let batch: Vec<_> = fresh.iter().filter_map(|index| trigger(*index)).collect();
        if batch.is_empty() {
            return;
        }
        let outcomes: Vec<_> = match self.backend.connect(&batch) {
            Ok(()) => Vec::new(),
            Err(_) => batch.iter().map(|one| (one.0, self.backend.connect(slice::from_ref(one)))).collect(),
        };
        self.connected = true;
        for (index, outcome) in outcomes {
            if let (Err(error), Some(slot)) = (outcome, self.slots.get_mut(usize::from(index))) {
                *slot = Slot::default();
                failures.push((index, "connect", error));
            }
        }
    }

    /// Says what failed, once: a guest may try for ever.
    fn complain(&mut self, failures: &[Failure]) {
        let Some((first, step, error)) = failures.first() else { return };
        if !std::mem::replace(&mut self.complained, true) {
            let (device, kind, vectors) = (self.backend.owner(), self.kind, failures.len());
            tracing::warn!(device, kind, vectors, first, step, %error, "interrupt vectors stay silent");
        }
    }

    /// Whether a masked vector has been raised. `None`: it was never unmasked, and whoever would raise it has not been
    /// told where to.
    pub(super) fn is_pending(&self, index: u16) -> Option<bool> {
        let slot = self.slot(index)?;
        let vector = slot.vector.as_ref()?;
        Some(slot.message.is_none() && eventfd::is_signalled(vector.eventfd()))
    }

    /// Gives everything back.
    pub(super) fn disconnect(&mut self) {
        if std::mem::take(&mut self.connected) {
            self.backend.disconnect_all();
        }
        self.slots.fill_with(Slot::default);
    }
}

impl Drop for Vectors {
    fn drop(&mut self) {
        self.disconnect();
    }
}

fn change(vector: &dyn MsiVector, message: Option<MsiMessage>) -> io::Result<()> {
    vector.set_message(message).inspect_err(|_| {
        // The old message must not be sent in the new one's place.
        if message.is_some() {
            let _ = vector.set_message(None);
        }
    })
}
