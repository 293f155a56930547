//! The common configuration structure (virtio 1.3 §4.1.4.3): what its registers hold, and what a write asks for. Pure.

use virtio_bindings::virtio_config::{
    VIRTIO_CONFIG_S_DRIVER_OK, VIRTIO_CONFIG_S_FEATURES_OK, VIRTIO_CONFIG_S_NEEDS_RESET, VIRTIO_F_RING_RESET,
    VIRTIO_F_VERSION_1,
};

use crate::virtio::interrupts::NO_VECTOR;
use crate::virtio::queue::RingAddresses;

/// Bytes of the structure.
pub(super) const SIZE: u64 = 0x40;

const FEATURES_OK: u8 = VIRTIO_CONFIG_S_FEATURES_OK as u8;
const DRIVER_OK: u8 = VIRTIO_CONFIG_S_DRIVER_OK as u8;
const NEEDS_RESET: u8 = VIRTIO_CONFIG_S_NEEDS_RESET as u8;

const DEVICE_FEATURE_SELECT: u64 = 0x00;
const DEVICE_FEATURE: usize = 0x04;
const DRIVER_FEATURE_SELECT: u64 = 0x08;
const DRIVER_FEATURE: u64 = 0x0c;
const CONFIG_VECTOR: u64 = 0x10;
const NUM_QUEUES: usize = 0x12;
const STATUS: u64 = 0x14;
const GENERATION: usize = 0x15;
const QUEUE_SELECT: u64 = 0x16;
const QUEUE_SIZE: u64 = 0x18;
const QUEUE_VECTOR: u64 = 0x1a;
const QUEUE_ENABLE: u64 = 0x1c;
const QUEUE_NOTIFY_OFFSET: usize = 0x1e;
const QUEUE_DESCRIPTORS: u64 = 0x20;
const QUEUE_DRIVER: u64 = 0x28;
const QUEUE_DEVICE: u64 = 0x30;
const QUEUE_RESET: u64 = 0x3a;

/// What a write asks of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing.
    None,
    /// Back to the beginning.
    Reset,
    /// The driver is ready.
    Activate,
    /// A queue was enabled on an active device.
    StartQueue(u16),
    /// A queue is to be stopped and forgotten.
    StopQueue(u16),
    /// A vector was chosen for changes of the configuration.
    ConfigVector(u16),
    /// A vector was chosen for a queue.
    QueueVector(u16, u16),
}

/// The registers of one device.
#[derive(Clone, Debug)]
pub(super) struct Registers {
    offered: u64,
    accepted: u64,
    device_feature_select: u32,
    driver_feature_select: u32,
    status: u8,
    config_vector: u16,
    queue_select: u16,
    queues: Vec<QueueRegisters>,
}

#[derive(Clone, Copy, Debug)]
struct QueueRegisters {
    largest: u16,
    addresses: RingAddresses,
    vector: u16,
    enabled: bool,
}

impl QueueRegisters {
    fn new(largest: u16) -> Self {
        let addresses = RingAddresses { size: largest, ..RingAddresses::default() };
        Self { largest, addresses, vector: NO_VECTOR, enabled: false }
    }
}

impl Registers {
    /// The registers of a device that offers `offered` and has queues of up to these sizes.
    pub(super) fn new(offered: u64, largest: &[u16]) -> Self {
        Self {
            offered: offered | 1 << VIRTIO_F_VERSION_1,
            accepted: 0,
            device_feature_select: 0,
            driver_feature_select: 0,
            status: 0,
            config_vector: NO_VECTOR,
            queue_select: 0,
            queues: largest.iter().copied().map(QueueRegisters::new).collect(),
        }
    }

    /// As after power-on.
    pub(super) fn reset(&mut self) {
        let largest: Vec<u16> = self.queues.iter().map(|queue| queue.largest).collect();
        *self = Self::new(self.offered, &largest);
    }

    /// The features that the driver accepted.
    pub(super) fn accepted(&self) -> u64 {
        self.accepted
    }

    /// Whether the driver is ready.
    pub(super) fn is_live(&self) -> bool {
        self.status & DRIVER_OK != 0
    }

    /// The queues that are enabled.
    pub(super) fn enabled(&self) -> impl Iterator<Item = (u16, RingAddresses)> {
        (0..).zip(&self.queues).filter(|(_, queue)| queue.enabled).map(|(index, it)| (index, it.addresses))
    }

    /// Takes the vector that was chosen in the end.
    pub(super) fn settle_vector(&mut self, queue: Option<u16>, vector: u16) {
        match queue {
            None => self.config_vector = vector,
            Some(queue) => {
                if let Some(queue) = self.queues.get_mut(usize::from(queue)) {
                    queue.vector = vector;
                }
            }
        }
    }

    /// Reads. What the transport knows is handed in: whether the device is broken, and its configuration's generation.
    pub(super) fn read(&self, offset: u64, data: &mut [u8], broken: bool, generation: u8) {
        let image = self.image(broken, generation);
        let from = usize::try_from(offset).ok().and_then(|offset| image.get(offset..)).unwrap_or_default();
        data.fill(0);
        data.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
    }

    fn image(&self, broken: bool, generation: u8) -> [u8; SIZE as usize] {
        let mut image = [0; SIZE as usize];
        let mut put = |offset: usize, bytes: &[u8]| {
            let to = image.get_mut(offset..).unwrap_or_default();
            to.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        };
        let half = |features: u64, select: u32| match select {
            0 => features as u32,
            1 => (features >> 32) as u32,
            _ => 0,
        };
        let at = |offset: u64| offset as usize;
        put(at(DEVICE_FEATURE_SELECT), &self.device_feature_select.to_le_bytes());
        put(DEVICE_FEATURE, &half(self.offered, self.device_feature_select).to_le_bytes());
        put(at(DRIVER_FEATURE_SELECT), &self.driver_feature_select.to_le_bytes());
        put(at(DRIVER_FEATURE), &half(self.accepted, self.driver_feature_select).to_le_bytes());
        put(at(CONFIG_VECTOR), &self.config_vector.to_le_bytes());
        put(NUM_QUEUES, &(self.queues.len() as u16).to_le_bytes());
        put(at(STATUS), &[self.status | if broken { NEEDS_RESET } else { 0 }]);
        put(GENERATION, &[generation]);
        put(at(QUEUE_SELECT), &self.queue_select.to_le_bytes());
        if let Some(queue) = self.queues.get(usize::from(self.queue_select)) {
            put(at(QUEUE_SIZE), &queue.addresses.size.to_le_bytes());
            put(at(QUEUE_VECTOR), &queue.vector.to_le_bytes());
            put(at(QUEUE_ENABLE), &u16::from(queue.enabled).to_le_bytes());
            put(QUEUE_NOTIFY_OFFSET, &self.queue_select.to_le_bytes());
            put(at(QUEUE_DESCRIPTORS), &queue.addresses.descriptors.to_le_bytes());
            put(at(QUEUE_DRIVER), &queue.addresses.driver.to_le_bytes());
            put(at(QUEUE_DEVICE), &queue.addresses.device.to_le_bytes());
        } else {
            put(at(QUEUE_VECTOR), &NO_VECTOR.to_le_bytes());
        }
        image
    }

    /// Writes, with the widths that the specification allows (§4.1.3.1); others are dropped.
    pub(super) fn write(&mut self, offset: u64, data: &[u8]) -> Effect {
        match *data {
            [value] if offset == STATUS => return self.set_status(value),
            [a, b] => return self.write_word(offset, u16::from_le_bytes([a, b])),
            [a, b, c, d] => self.write_dword(offset, u32::from_le_bytes([a, b, c, d])),
            [a, b, c, d, e, f, g, h] => {
                self.write_dword(offset, u32::from_le_bytes([a, b, c, d]));
                self.write_dword(offset.saturating_add(4), u32::from_le_bytes([e, f, g, h]));
            }
            _ => {}
        }
        Effect::None
    }

    fn write_dword(&mut self, offset: u64, value: u32) {
        match offset {
            DEVICE_FEATURE_SELECT => self.device_feature_select = value,
            DRIVER_FEATURE_SELECT => self.driver_feature_select = value,
            DRIVER_FEATURE if self.status & FEATURES_OK == 0 => {
                set_half(&mut self.accepted, self.driver_feature_select, value);
            }
            QUEUE_DESCRIPTORS..SIZE => {
                let Some(queue) = self.selected_mut().filter(|queue| !queue.enabled) else { return };
                let RingAddresses { descriptors, driver, device, .. } = &mut queue.addresses;
                let half = u32::from(offset & 4 != 0);
                match offset & !7 {
                    QUEUE_DESCRIPTORS => set_half(descriptors, half, value),
                    QUEUE_DRIVER => set_half(driver, half, value),
                    QUEUE_DEVICE => set_half(device, half, value),
                    _ => {}
                }
            }
            _ => {}
        }
    }

    fn write_word(&mut self, offset: u64, value: u16) -> Effect {
        let (live, index) = (self.is_live(), self.queue_select);
        let negotiated = self.status & FEATURES_OK != 0;
        let resettable = self.accepted >> VIRTIO_F_RING_RESET & 1 != 0;
        match (offset, self.selected_mut()) {
            (CONFIG_VECTOR, _) => return Effect::ConfigVector(value),
            (QUEUE_SELECT, _) => self.queue_select = value,
            (QUEUE_SIZE, Some(queue)) if !queue.enabled && (1..=queue.largest).contains(&value) => {
                queue.addresses.size = value;
            }
            (QUEUE_VECTOR, Some(_)) => return Effect::QueueVector(index, value),
            (QUEUE_ENABLE, Some(queue)) if value == 1 && negotiated && !queue.enabled => {
                queue.enabled = true;
                if live {
                    return Effect::StartQueue(index);
                }
            }
            (QUEUE_RESET, Some(queue)) if value == 1 && resettable => {
                *queue = QueueRegisters { vector: queue.vector, ..QueueRegisters::new(queue.largest) };
                return Effect::StopQueue(index);
            }
            _ => {}
        }
        Effect::None
    }

    /// Bits are only ever added, or all taken away (§2.1).
    fn set_status(&mut self, value: u8) -> Effect {
        if value == 0 {
            return Effect::Reset;
        }
        let before = self.status;
        let mut status = before | value & !NEEDS_RESET;
        let fresh = |bit: u8| status & !before & bit != 0;
        // Features that were not offered, or a driver of before 1.0, are refused (§3.1.1).
        let acceptable = self.accepted & !self.offered == 0 && self.accepted >> VIRTIO_F_VERSION_1 & 1 != 0;
        if fresh(FEATURES_OK) && !acceptable {
            status &= !FEATURES_OK;
        }
        if status & FEATURES_OK == 0 {
            status &= !DRIVER_OK;
        }
        self.status = status;
        if status & !before & DRIVER_OK != 0 { Effect::Activate } else { Effect::None }
    }

    fn selected_mut(&mut self) -> Option<&mut QueueRegisters> {
        self.queues.get_mut(usize::from(self.queue_select))
    }
}

/// Sets the lower half (0) or the upper one (1).
fn set_half(of: &mut u64, half: u32, value: u32) {
    match half {
        0 => *of = *of & !0xffff_ffff | u64::from(value),
        1 => *of = *of & 0xffff_ffff | u64::from(value) << 32,
        _ => {}
    }
}

#[cfg(test)]
#[path = "common_test.rs"]
mod tests;
