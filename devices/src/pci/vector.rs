//! What MSI and MSI-X share: interrupt vectors that get their host resources when first needed.

use std::io;
use std::sync::Arc;

use vmm_sys_util::eventfd::EventFd;

use crate::eventfd;
use crate::irq::{InterruptController, MsiMessage, MsiVector};

/// Whoever raises a function's interrupts: hardware behind VFIO, or an emulated device.
///
/// Called with the capability's lock held: it must not call back into [`Msix`](super::Msix) or [`Msi`](super::Msi).
pub trait VectorBackend: Send + Sync {
    /// From now on raise `vector` by signalling `trigger`. Called once for a vector, when the guest first
    /// unmasks it, and again only after [`VectorBackend::disconnect_all`].
    fn connect(&self, vector: u16, trigger: &EventFd) -> io::Result<()>;
    /// Raise nothing any more: the guest turned the capability off, or it was reset. Called only when a vector
    /// was connected before. The triggers are closed afterwards.
    fn disconnect_all(&self);
}

/// The vectors of one capability. Message `None` is masked; a vector costs nothing before its first message.
pub(super) struct Vectors {
    kind: &'static str,
    controller: Arc<dyn InterruptController>,
    backend: Arc<dyn VectorBackend>,
    slots: Vec<Slot>,
    connected: bool,
}

#[derive(Default)]
struct Slot {
    vector: Option<Arc<dyn MsiVector>>,
    message: Option<MsiMessage>,
    complained: bool,
}

/// The step that failed, and how.
type Failure = (&'static str, io::Error);

impl Vectors {
    pub(super) fn new(
        kind: &'static str,
        count: u16,
        controller: Arc<dyn InterruptController>,
        backend: Arc<dyn VectorBackend>,
    ) -> Self {
        let slots = std::iter::repeat_with(Slot::default).take(count.into()).collect();
        Self { kind, controller, backend, slots, connected: false }
    }

    /// Gives a vector its message, or masks it. A vector that fails stays silent and is tried again next time.
    pub(super) fn set(&mut self, index: u16, message: Option<MsiMessage>) {
        let Some(slot) = self.slots.get_mut(usize::from(index)) else { return };
        if slot.message == message {
            return;
        }
        let outcome = match &slot.vector {
            Some(vector) => change(&**vector, message),
            None => first_message(&*self.controller, &*self.backend, index, message).map(|vector| {
                slot.vector = Some(vector);
                self.connected = true;
            }),
        };
        slot.message = message.filter(|_| outcome.is_ok());
        if let Err((step, error)) = outcome
            && !std::mem::replace(&mut slot.complained, true)
        {
            tracing::warn!(kind = self.kind, vector = index, step, %error, "interrupt vector stays silent");
        }
    }

    /// Whether a masked vector has been raised.
    pub(super) fn is_pending(&self, index: u16) -> bool {
        let slot = self.slots.get(usize::from(index)).filter(|slot| slot.message.is_none());
        slot.and_then(|slot| slot.vector.as_ref())
            .is_some_and(|vector| eventfd::is_signalled(vector.eventfd()))
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

fn first_message(
    controller: &dyn InterruptController,
    backend: &dyn VectorBackend,
    index: u16,
    message: Option<MsiMessage>,
) -> Result<Arc<dyn MsiVector>, Failure> {
    let vector = controller.msi_vector().map_err(|error| ("allocate", error))?;
    // The message first: an interrupt that comes at once then has somewhere to go.
    change(&*vector, message)?;
    backend.connect(index, vector.eventfd()).map_err(|error| ("connect", error))?;
    Ok(vector)
}

fn change(vector: &dyn MsiVector, message: Option<MsiMessage>) -> Result<(), Failure> {
    vector.set_message(message).map_err(|error| {
        // The old message must not be sent in the new one's place.
        if message.is_some() {
            let _ = vector.set_message(None);
        }
        ("set message", error)
    })
}
