//! Interrupts as devices raise them. The hypervisor implements these traits; devices only use them.

use std::io;
use std::sync::Arc;

use vmm_sys_util::eventfd::EventFd;

/// A message-signalled interrupt: a memory write of `data` to `address` (Intel SDM vol. 3, 11.11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsiMessage {
    /// Where it is written, 0xfee0_0000 and up on x86.
    pub address: u64,
    /// What is written.
    pub data: u32,
}

/// One interrupt that whoever holds its eventfd (this process, vhost, VFIO in the kernel) can raise.
///
/// While no message is set the interrupt is masked: signals collect in the eventfd and are delivered, as
/// one, when a message is set. Dropping the vector frees its host resources.
pub trait MsiVector: Send + Sync {
    /// What to write to in order to raise it.
    fn eventfd(&self) -> &EventFd;
    /// Which of its controller's vectors it is, for [`InterruptController::set_messages`].
    fn number(&self) -> u32;
    /// Sets the message and unmasks, or masks with `None`.
    fn set_message(&self, message: Option<MsiMessage>) -> io::Result<()>;
}

/// An eventfd that raises a pin of the I/O APIC, for hardware whose interrupts do not pass through this process.
///
/// A signal becomes the message that the pin sends at that moment, and is lost while the pin sends none. Dropping it
/// disconnects the eventfd.
pub trait PinTrigger: Send + Sync {
    /// What to write to in order to raise the pin.
    fn eventfd(&self) -> &EventFd;
}

/// The interrupt side of the hypervisor.
pub trait InterruptController: Send + Sync {
    /// A new, masked vector. Fails when the host's routes are used up.
    fn msi_vector(&self) -> io::Result<Arc<dyn MsiVector>>;
    /// Sets the messages of many vectors of this controller, each named by its number, for the price of one. On
    /// failure any of them may be as they were: [`MsiVector::set_message`] then tells which one cannot be set.
    fn set_messages(&self, messages: &[(u32, Option<MsiMessage>)]) -> io::Result<()>;
    /// Delivers a message at once.
    fn signal_msi(&self, message: MsiMessage) -> io::Result<()>;
    /// Tells which message each IOAPIC pin sends (`None`: masked), so that the hypervisor can report the
    /// end of interrupt of level-triggered ones and drive pins from eventfds. A pin that is masked while its
    /// level-triggered interrupt is being handled keeps its message until the end of that interrupt.
    fn set_ioapic_route(&self, pin: u8, message: Option<MsiMessage>) -> io::Result<()>;
    /// Lets an eventfd raise an IOAPIC pin by its route. Several may raise the same pin.
    fn pin_trigger(&self, pin: u8) -> io::Result<Box<dyn PinTrigger>>;
}
