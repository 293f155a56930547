//! Blocks of memory that are plugged in and out: pinned and mapped for the passed-through devices before the guest has them, and out
//! of their reach before their pages are the host's again.
//!
//! A guest asks for them on a thread that serves it and may do no such thing. So there is one ([`Keeper`]) that the machine starts
//! before, with its own rights.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use devices::virtio::mem::Owner;
use memory::pin::{self, DmaMapper, PinError, PinOptions};
use memory::{GuestRange, PluggedMemory};
use vfio::Passthrough;

use super::Devices;
use crate::machine::aside::Aside;

impl Devices {
    /// Plugs blocks in, of which none is. All of them or none.
    fn plug_memory(&self, range: GuestRange, prefault: bool) -> Result<(), PinError> {
        let Some(memory) = self.means.ram.pluggable() else { return Ok(()) };
        let session = self.session();
        if session.passthrough.is_some() || prefault {
            let blocks: Vec<_> =
                memory.blocks(range).into_iter().filter(|block| !memory.is_held(block)).collect();
            if let Err(error) = self.pin_blocks(session.passthrough.as_ref(), &blocks) {
                // Some of them may have their pages by now.
                blocks.iter().for_each(|block| self.discard(block));
                return Err(error);
            }
        }
        for block in memory.blocks(range) {
            memory.hold(&block, false);
        }
        memory.note(range, true);
        Ok(())
    }

    /// Pins blocks for the devices that there are; others may write to them meanwhile.
    pub(super) fn pin_blocks(
        &self,
        passthrough: Option<&Passthrough>,
        blocks: &[pin::Chunk],
    ) -> Result<(), PinError> {
        let mapper = passthrough.map(|it| it.space().as_ref() as &dyn DmaMapper);
        let options = PinOptions { populate: false, replace_after: None, ..self.means.pin.clone() };
        if blocks.is_empty() {
            return Ok(());
        }
        pin::bring_up_blocks(&self.means.ram, blocks, mapper, &options).map(drop)
    }

    /// Takes the blocks of `range` out that are plugged in, and gives them back to the host. One that the IOMMU does not let go of is held.
    pub fn unplug_memory(&self, range: GuestRange) {
        let Some(memory) = self.means.ram.pluggable() else { return };
        let session = self.session();
        for block in memory.plugged(range) {
            memory.note(block.guest, false);
            let unmapped = session.passthrough.as_ref().map_or(Ok(()), |it| it.space().unmap(&block));
            match unmapped {
                Ok(()) => self.discard(&block),
                Err(error) => {
                    let causes = causes(&error);
                    tracing::error!(%error, causes, "a block that was unplugged stays pinned: its pages are kept");
                    memory.hold(&block, true);
                }
            }
        }
    }

    /// The blocks that a first device is to reach. Those that others held are not any more.
    pub(super) fn plugged_blocks(&self) -> Vec<pin::Chunk> {
        let Some(memory) = self.means.ram.pluggable() else { return Vec::new() };
        let all = memory.region().guest;
        for block in memory.blocks(all).iter().filter(|block| memory.is_held(block)) {
            memory.hold(block, false);
        }
        memory.plugged(all)
    }

    /// The guest begins anew: nothing is plugged in.
    pub fn unplug_all_memory(&self) {
        if let Some(all) = self.means.ram.pluggable().map(PluggedMemory::region) {
            self.unplug_memory(all.guest);
        }
    }

    fn discard(&self, block: &pin::Chunk) {
        if let Err(error) = self.means.ram.discard(block.guest) {
            let causes = causes(&error);
            tracing::warn!(%error, causes, "the host does not take back a block that was unplugged");
        }
    }
}

/// All that is behind an error, the nearest first.
pub(in crate::machine) fn causes(error: &dyn std::error::Error) -> String {
    let chain = std::iter::successors(error.source(), |error| error.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// The way to the thread that does it.
pub struct Keeper {
    aside: Aside,
    keeping: Arc<Keeping>,
}

struct Keeping {
    devices: Weak<Devices>,
    prefault: bool,
    /// A guest asks again and again: it is said once, until something is had.
    said: AtomicBool,
}

impl Keeper {
    /// Starts it. It ends with the result. With `prefault` blocks have their pages before the guest has them.
    ///
    /// # Errors
    /// There can be no more threads.
    pub fn start(devices: &Arc<Devices>, prefault: bool) -> io::Result<Self> {
        let devices = Arc::downgrade(devices);
        let keeping = Arc::new(Keeping { devices, prefault, said: AtomicBool::new(false) });
        Ok(Self { aside: Aside::start("memory")?, keeping })
    }
}

impl Owner for Keeper {
    fn plug(&self, range: GuestRange) -> bool {
        let keeping = self.keeping.clone();
        self.aside.ask(move || keeping.plug(range)).unwrap_or(false)
    }

    fn unplug(&self, range: GuestRange) {
        let keeping = self.keeping.clone();
        self.aside
            .ask(move || keeping.devices.upgrade().iter().for_each(|devices| devices.unplug_memory(range)));
    }
}

impl Keeping {
    fn plug(&self, range: GuestRange) -> bool {
        let Some(devices) = self.devices.upgrade() else { return false };
        let plugged = devices.plug_memory(range, self.prefault);
        if let Err(error) = &plugged
            && !self.said.load(Ordering::Relaxed)
        {
            let causes = causes(error);
            tracing::warn!(%range, %error, causes, "memory cannot be plugged in; the guest is told to ask again");
        }
        self.said.store(plugged.is_err(), Ordering::Relaxed);
        plugged.is_ok()
    }
}
