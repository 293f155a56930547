//! Flow control of one connection (virtio 1.3 §5.10.6.3): each side says how many bytes it has room for in all, and how
//! many it has passed on, and the other sends no more than that. Counters run modulo 2^32.

/// Bytes of a connection that are kept for a reader who is slower than the guest.
pub(super) const ROOM: u32 = 128 << 10;

/// What both sides have said and done.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Credit {
    /// Sent to the guest.
    sent: u32,
    /// What the guest has room for, and what it has passed on.
    guest_room: u32,
    guest_forwarded: u32,
    /// Received from the guest.
    received: u32,
    /// Passed on to the host's side, and how much of that the guest has been told.
    forwarded: u32,
    told: u32,
}

impl Credit {
    /// The guest says what it has room for, in every packet.
    pub(super) fn heard(&mut self, room: u32, forwarded: u32) {
        self.guest_room = room;
        self.guest_forwarded = forwarded;
    }

    /// Bytes that the guest can take now.
    pub(super) fn sendable(&self) -> u32 {
        // A guest that has passed on what it was not sent has no room.
        self.guest_room.saturating_sub(self.sent.wrapping_sub(self.guest_forwarded))
    }

    /// So many were sent.
    pub(super) fn sent(&mut self, bytes: u32) {
        self.sent = self.sent.wrapping_add(bytes);
    }

    /// The guest sends so many. False if it may not.
    #[must_use]
    pub(super) fn receive(&mut self, bytes: u32) -> bool {
        if bytes > ROOM - self.held() {
            return false;
        }
        self.received = self.received.wrapping_add(bytes);
        true
    }

    /// Received and not passed on: never more than [`ROOM`].
    fn held(&self) -> u32 {
        self.received.wrapping_sub(self.forwarded)
    }

    /// So many of what was received are passed on.
    pub(super) fn forward(&mut self, bytes: u32) {
        self.forwarded = self.forwarded.wrapping_add(bytes);
    }

    /// What the guest is told in a packet: the room, and what was passed on.
    pub(super) fn tell(&mut self) -> (u32, u32) {
        self.told = self.forwarded;
        (ROOM, self.forwarded)
    }

    /// Whether the guest waits for room, or soon will, and there is more than it knows.
    pub(super) fn is_worth_telling(&self) -> bool {
        let known = ROOM.saturating_sub(self.received.wrapping_sub(self.told));
        self.told != self.forwarded && known < ROOM / 2
    }
}

#[cfg(test)]
#[path = "credit_test.rs"]
mod tests;
