//! What devices reach that the guest confines: pieces of its memory, pinned and mapped in the host's IOMMU as the guest maps them in
//! its own.
//!
//! The guest asks on a thread that serves it and may do no such thing. So there is one ([`Keeper`]) that the machine starts before, with its
//! own rights.

use std::io;
use std::num::NonZero;
use std::ops::RangeInclusive;
use std::sync::{Arc, Weak};
use std::time::Duration;

use devices::virtio::iommu::{Access, Reach, Unreached};
use memory::pin::{self, Chunk, DmaMapper, PinOptions};
use memory::{GuestRam, GuestRange};
use vfio::{DmaSpace, Window};

use super::aside::Aside;
use super::hotplug::blocks::causes;

/// What is mapped without a trial pin first, in bytes: the kernel's own pin takes fresh pages outside of CMA and moves the others, and
/// a few of them do not keep it long. It is what drivers map for each request.
const SMALL: u64 = 2 << 20;
/// What may be lost over a map until it is given up: Linux waits for it with the interrupts of a CPU off, and holds a CPU that does so
/// for 10 s to be stuck.
const MOST_LOST: Duration = Duration::from_secs(2);

/// The spaces, by their numbers.
struct Confined {
    // What a machine has goes with it.
    ram: Weak<GuestRam>,
    spaces: Vec<Weak<DmaSpace>>,
    pin: PinOptions,
}

impl Confined {
    fn map(
        &self,
        spaces: &[usize],
        iova: &RangeInclusive<u64>,
        guest: GuestRange,
        access: Access,
    ) -> Result<(), Unreached> {
        let ram = self.ram.upgrade().ok_or(Unreached::Failed)?;
        let piece = ram.piece(guest).ok_or(Unreached::Failed)?;
        for (done, space) in spaces.iter().enumerate() {
            let mapped = self.space(*space).and_then(|space| {
                let window = Window::new(&space, guest.start, *iova.start(), access);
                self.map_in(&ram, &piece, &window, iova)
            });
            if mapped.is_err() {
                // What stays is told of.
                let _ = self.unmap(spaces.get(..done).unwrap_or_default(), iova);
                return mapped;
            }
        }
        Ok(())
    }

    fn map_in(
        &self,
        ram: &GuestRam,
        piece: &Chunk,
        window: &Window,
        iova: &RangeInclusive<u64>,
    ) -> Result<(), Unreached> {
        if piece.guest.size <= SMALL {
            match window.map(piece, None) {
                Ok(()) => return Ok(()),
                Err(error) if may_pass(&error.source) => {
                    tracing::debug!(%error, cause = %error.source, "a small map is refused, and pinned first");
                }
                Err(error) => {
                    let causes = causes(&error);
                    tracing::warn!(%error, causes, "a confined device does not get what the guest maps for it");
                    return Err(unreached(&error.source));
                }
            }
        }
        let pinned = pin::bring_up_piece(ram, piece, window, &self.pin);
        pinned.map(drop).map_err(|error| {
            let (causes, iova) = (causes(&error), format!("{iova:#x?}"));
            tracing::warn!(iova, %error, causes, "a confined device does not get what the guest maps for it");
            Unreached::NoMemory
        })
    }

    fn unmap(&self, spaces: &[usize], iova: &RangeInclusive<u64>) -> Result<(), Unreached> {
        let range = GuestRange { start: *iova.start(), size: iova.end() - iova.start() + 1 };
        let mut done = Ok(());
        for space in spaces {
            if let Err(error) = self.space(*space)?.unmap_range(range) {
                let causes = causes(&error);
                tracing::error!(%error, causes, "what the guest unmaps for a confined device stays mapped");
                done = Err(Unreached::Failed);
            }
        }
        done
    }

    fn clear(&self, space: usize) -> Result<(), Unreached> {
        self.space(space)?.clear().map_err(|error| {
            tracing::error!(%error, "what was mapped for a confined device stays mapped");
            Unreached::Failed
        })
    }

    fn space(&self, space: usize) -> Result<Arc<DmaSpace>, Unreached> {
        self.spaces.get(space).and_then(Weak::upgrade).ok_or(Unreached::Failed)
    }
}

/// Whether it may be due to pages that cannot be pinned where they are just now.
fn may_pass(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOMEM | libc::EAGAIN | libc::EBUSY | libc::EINTR))
}

fn unreached(error: &io::Error) -> Unreached {
    // A container has no room for more maps.
    if error.raw_os_error() == Some(libc::ENOSPC) { Unreached::NoMemory } else { Unreached::Failed }
}

type Outcome = Result<(), Unreached>;

/// The way to the thread that does it.
pub struct Keeper {
    aside: Aside,
    confined: Arc<Confined>,
}

impl Keeper {
    /// Starts it, for these address spaces. It ends with the result.
    ///
    /// # Errors
    /// There can be no more threads.
    pub fn start(ram: &Arc<GuestRam>, spaces: &[Arc<DmaSpace>], pin: &PinOptions) -> io::Result<Self> {
        let confined = Confined {
            ram: Arc::downgrade(ram),
            spaces: spaces.iter().map(Arc::downgrade).collect(),
            // The guest uses the memory meanwhile, and waits for an answer; it may ask without end, and has a thread for it.
            pin: PinOptions {
                deadline: pin.deadline.min(MOST_LOST),
                populate: false,
                replace_after: None,
                take_turns: false,
                threads: NonZero::new(1),
                ..pin.clone()
            },
        };
        Ok(Self { aside: Aside::start("iommu")?, confined: Arc::new(confined) })
    }

    fn ask(&self, what: impl FnOnce(&Confined) -> Outcome + Send + 'static) -> Outcome {
        let confined = self.confined.clone();
        self.aside.ask(move || what(&confined)).unwrap_or(Err(Unreached::Failed))
    }
}

impl Reach for Keeper {
    fn map(
        &self,
        spaces: &[usize],
        iova: &RangeInclusive<u64>,
        guest: GuestRange,
        access: Access,
    ) -> Outcome {
        let (spaces, iova) = (spaces.to_vec(), iova.clone());
        self.ask(move |confined| confined.map(&spaces, &iova, guest, access))
    }

    fn unmap(&self, spaces: &[usize], iova: &RangeInclusive<u64>) -> Outcome {
        let (spaces, iova) = (spaces.to_vec(), iova.clone());
        self.ask(move |confined| confined.unmap(&spaces, &iova))
    }

    fn clear(&self, space: usize) -> Outcome {
        self.ask(move |confined| confined.clear(space))
    }
}
