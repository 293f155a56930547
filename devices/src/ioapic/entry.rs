//! A redirection table entry (82093AA §3.2.4) and the message it stands for (Intel SDM vol. 3, 11.11).

use crate::irq::MsiMessage;

/// Pins of the I/O APIC.
pub const PINS: u8 = 24;

const MASKED: u64 = 1 << 16;
const TRIGGER_LEVEL: u64 = 1 << 15;
const REMOTE_IRR: u64 = 1 << 14;
const DESTINATION_LOGICAL: u64 = 1 << 11;
/// Vector, delivery mode, destination mode, polarity, trigger mode, mask; destination with its extension.
const WRITABLE: u64 = 0xfffe_0000_0001_afff;

const MODE_FIXED: u64 = 0;
const MODE_LOWEST_PRIORITY: u64 = 1;
const MODE_SMI: u64 = 2;
const MODE_NMI: u64 = 4;
const MODE_INIT: u64 = 5;

const MSI_BASE: u64 = 0xfee0_0000;
const MSI_REDIRECTION_HINT: u64 = 1 << 3;
const MSI_DESTINATION_LOGICAL: u64 = 1 << 2;
const MSI_LEVEL_ASSERT: u32 = 1 << 14;
const MSI_TRIGGER_LEVEL: u32 = 1 << 15;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RedirectionEntry(u64);

impl Default for RedirectionEntry {
    fn default() -> Self {
        Self(MASKED)
    }
}

impl RedirectionEntry {
    pub(super) fn half(self, high: bool) -> u32 {
        (self.0 >> if high { 32 } else { 0 }) as u32
    }

    /// Writes one half as the guest does. Turning a pin to edge-triggered forgets its interrupt in service,
    /// which is how software clears a stuck one on older I/O APICs.
    pub(super) fn write_half(&mut self, high: bool, value: u32) {
        let shift = if high { 32 } else { 0 };
        let writable = WRITABLE & 0xffff_ffff << shift;
        self.0 = self.0 & !writable | u64::from(value) << shift & writable;
        if !self.is_level() {
            self.set_remote_irr(false);
        }
    }

    pub(super) fn is_masked(self) -> bool {
        self.0 & MASKED != 0
    }

    pub(super) fn vector(self) -> u8 {
        self.0 as u8
    }

    /// Only fixed and lowest-priority interrupts are level-triggered; the others are edges whatever the bit says.
    pub(super) fn is_level(self) -> bool {
        self.0 & TRIGGER_LEVEL != 0 && matches!(self.mode(), MODE_FIXED | MODE_LOWEST_PRIORITY)
    }

    pub(super) fn remote_irr(self) -> bool {
        self.0 & REMOTE_IRR != 0
    }

    pub(super) fn set_remote_irr(&mut self, set: bool) {
        self.0 = self.0 & !REMOTE_IRR | if set { REMOTE_IRR } else { 0 };
    }

    /// What the pin sends, masked or not. Nothing in the reserved modes, nor in ExtINT: there is no PIC.
    ///
    /// Bits 55 to 49 extend the destination to 15 bits, as KVM and Linux know it (`KVM_FEATURE_MSI_EXT_DEST_ID`).
    pub(super) fn message(self) -> Option<MsiMessage> {
        let mode = self.mode();
        if !matches!(mode, MODE_FIXED | MODE_LOWEST_PRIORITY | MODE_SMI | MODE_NMI | MODE_INIT) {
            return None;
        }
        let flag = |set: bool, bit: u64| if set { bit } else { 0 };
        let address = MSI_BASE
            | self.0 >> 44 & 0xf_ffe0
            | flag(mode == MODE_LOWEST_PRIORITY, MSI_REDIRECTION_HINT)
            | flag(self.0 & DESTINATION_LOGICAL != 0, MSI_DESTINATION_LOGICAL);
        let level = if self.is_level() { MSI_TRIGGER_LEVEL | MSI_LEVEL_ASSERT } else { 0 };
        Some(MsiMessage { address, data: u32::from(self.vector()) | (mode as u32) << 8 | level })
    }

    fn mode(self) -> u64 {
        self.0 >> 8 & 0b111
    }
}
