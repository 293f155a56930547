//! The memory behind guest RAM: one sealed memfd, mapped once, nothing of it touched.
//!
//! The mapping is laid into one reservation that starts at a 1 GiB boundary, so that GPA, HVA and file offset
//! agree modulo 1 GiB: huge pages of any size stay possible in the page cache, the host page tables, the guest's
//! and the IOMMU's. Nothing is populated: the long-term pin is what faults pages in (see `pin`).
//!
//! # Unsafe
//! `mmap`, `munmap`, `madvise`, `memfd_create`, and handing the mapping to vm-memory as raw pointers.
#![expect(unsafe_code, reason = "maps guest memory")]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use miette::Diagnostic;
use rustix::fs::{SeekFrom, seek};
use thiserror::Error;
use vm_memory::mmap::{MmapRegion, MmapRegionBuilder};
use vm_memory::{FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestRegionMmap};

use crate::bind;
use crate::bytes::Bytes;
use crate::hugepages::Backing;
use crate::layout::RAM_ALIGN;
use crate::pin::{Chunk, plan};
use crate::reservation::Reservation;
use crate::{GuestRange, Layout, PersistentMemory, PluggedMemory};

const SEALS: libc::c_int = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
const PROT: libc::c_int = libc::PROT_READ | libc::PROT_WRITE;
const FLAGS: libc::c_int = libc::MAP_SHARED | libc::MAP_FIXED;

/// Whether a mapping has the pool set the huge pages aside that it may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Promise {
    /// All of them, or there is no mapping: else the guest dies by SIGBUS where the pool runs out.
    HugePages,
    /// None: they are, or no pool is taken from.
    Nothing,
}

/// A region of guest RAM in the three address spaces it is known by. All three agree modulo 1 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RamRegion {
    /// Guest physical addresses.
    pub guest: GuestRange,
    /// Host virtual address of its first byte.
    pub hva: u64,
    /// Offset of its first byte in the memfd.
    pub offset: u64,
}

/// All RAM of one guest. Dropping it unmaps the memory; the pages go when the last user of the memfd has gone.
#[derive(Debug)]
pub struct GuestRam {
    /// RAM, and behind it what can be plugged in.
    regions: Vec<RamRegion>,
    pluggable: Option<PluggedMemory>,
    size: u64,
    backing: Backing,
    guest_memory: GuestMemoryMmap,
    /// The same, and persistent memory.
    buffers: GuestMemoryMmap,
    persistent: Vec<PersistentMemory>,
    /// What is bound to nodes of the host.
    pub(crate) bound: Vec<(GuestRange, u32)>,
    mappings: Vec<Arc<MmapRegion>>,
    file: Arc<File>,
    reservation: Reservation,
}

impl GuestRam {
    /// Creates and maps the memory of `layout`, in pages. Allocates none.
    ///
    /// # Errors
    /// The kernel refuses the file, its size, or the address space.
    pub fn new(layout: &Layout) -> Result<Self, RamError> {
        Self::backed(layout, Backing::Pages)
    }

    /// Creates and maps the memory of `layout`. Allocates no page; huge pages are promised by their pool.
    ///
    /// # Errors
    /// The kernel refuses the file, its size, the huge pages or the address space.
    pub fn backed(layout: &Layout, backing: Backing) -> Result<Self, RamError> {
        let all: Vec<_> = layout.ram.iter().chain(&layout.pluggable).copied().collect();
        let (offsets, file_size) =
            file_offsets(&all).ok_or(RamError::Unmappable { size: layout.ram_bytes() })?;
        let file = Arc::new(create_memfd(file_size, backing)?);
        let reservation = Reservation::new(file_size)?;
        let mut regions = Vec::with_capacity(all.len());
        let mut mappings = Vec::with_capacity(all.len());
        let mut memory = Vec::with_capacity(all.len());
        for (&guest, offset) in all.iter().zip(offsets) {
            let region = RamRegion { guest, hva: reservation.aligned() + offset, offset };
            let mapping = Arc::new(map_region(&file, &region, backing)?);
            let unmappable = || RamError::Unmappable { size: guest.size };
            memory.push(
                GuestRegionMmap::with_arc(mapping.clone(), GuestAddress(guest.start))
                    .ok_or_else(unmappable)?,
            );
            mappings.push(mapping);
            regions.push(region);
        }
        let guest_memory =
            GuestMemoryMmap::from_regions(memory).map_err(|source| RamError::Regions { source })?;
        let size = layout.ram_bytes();
        let pluggable = layout.pluggable.and_then(|_| regions.last().copied()).map(PluggedMemory::new);
        let (buffers, persistent) = (guest_memory.clone(), Vec::new());
        Ok(Self {
            regions,
            pluggable,
            size,
            backing,
            guest_memory,
            buffers,
            persistent,
            bound: Vec::new(),
            mappings,
            file,
            reservation,
        })
    }

    /// Adds persistent memory, above what there is. It is no RAM: buffers of virtio devices may lie there, and nothing else of the guest's.
    ///
    /// # Errors
    /// It overlaps what is there, or lies below.
    pub fn attach(&mut self, memory: PersistentMemory) -> Result<(), RamError> {
        self.persistent.push(memory);
        let ram = self.regions.iter().zip(&self.mappings).map(|(region, mapping)| {
            GuestRegionMmap::with_arc(mapping.clone(), GuestAddress(region.guest.start))
        });
        let all = ram.chain(self.persistent.iter().map(PersistentMemory::region)).collect::<Option<_>>();
        let all = all.ok_or(RamError::Unmappable { size: self.size })?;
        self.buffers = GuestMemoryMmap::from_regions(all).map_err(|source| RamError::Regions { source })?;
        Ok(())
    }

    /// Its persistent memory, in the order in which it was attached.
    pub fn persistent(&self) -> &[PersistentMemory] {
        &self.persistent
    }

    /// RAM and persistent memory, in which buffers of virtio devices lie that [`GuestRam::reaches`] has let through. As for
    /// [`GuestRam::guest_memory`], clones must not outlive `self`.
    pub fn buffers(&self) -> &GuestMemoryMmap {
        &self.buffers
    }

    /// Whether `length` bytes from the GPA `address` on are memory of the guest that its virtio devices may read, or write.
    pub fn reaches(&self, address: u64, length: usize, writable: bool) -> bool {
        let read_only = |it: &&PersistentMemory| !it.is_writable();
        let here =
            |range: GuestRange| address < range.end() && address.saturating_add(length as u64) > range.start;
        GuestMemoryBackend::check_range(&self.buffers, GuestAddress(address), length)
            && !(writable && self.persistent.iter().filter(read_only).any(|it| here(it.guest())))
    }

    /// All RAM that a guest has from the start, in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// What it is made of.
    pub fn backing(&self) -> Backing {
        self.backing
    }

    /// The memfd behind it. Sealed against growing and shrinking.
    pub fn memfd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// How much of it has pages, in bytes.
    pub fn allocated(&self) -> u64 {
        self.file.metadata().map_or(0, |metadata| metadata.blocks().saturating_mul(512))
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// What can be plugged in besides, and what is.
    pub fn pluggable(&self) -> Option<&PluggedMemory> {
        self.pluggable.as_ref()
    }

    /// The regions, ascending; what can be plugged in is the last one.
    pub fn regions(&self) -> &[RamRegion] {
        &self.regions
    }

    /// The same memory for the rust-vmm crates. Clones must not outlive `self`: if one does, the mapping is
    /// leaked rather than unmapped under it.
    pub fn guest_memory(&self) -> &GuestMemoryMmap {
        &self.guest_memory
    }

    /// A piece of one region, if it is that.
    pub fn piece(&self, guest: GuestRange) -> Option<Chunk> {
        let end = guest.start.checked_add(guest.size)?;
        let holds = |region: &&RamRegion| guest.start >= region.guest.start && end <= region.guest.end();
        let region = self.regions.iter().find(holds).filter(|_| !guest.is_empty())?;
        let skipped = guest.start - region.guest.start;
        Some(Chunk { guest, hva: region.hva + skipped, offset: region.offset + skipped })
    }

    /// The regions that a guest has from the start, cut at multiples of `unit` bytes, and where nodes that they are bound to do.
    pub fn chunks(&self, unit: u64) -> Vec<Chunk> {
        let pluggable = self.pluggable.as_ref().map(PluggedMemory::region);
        let fixed = self.regions.strip_suffix(pluggable.as_slice()).unwrap_or(&self.regions);
        let end = fixed.last().map_or(0, |region| region.guest.end());
        let mut cuts: Vec<u64> =
            self.bound.iter().flat_map(|(range, _)| [range.start, range.end()]).collect();
        cuts.extend([0, end]);
        cuts.sort_unstable();
        let pieces = cuts.windows(2).flat_map(|cut| match cut {
            [start, end] if start < end => {
                let range = GuestRange::new(*start, end - start);
                fixed.iter().filter_map(|region| bind::part(region, range)).collect()
            }
            _ => Vec::new(),
        });
        plan(&pieces.collect::<Vec<_>>(), unit)
    }
}

impl Drop for GuestRam {
    fn drop(&mut self) {
        self.guest_memory = GuestMemoryMmap::default();
        self.buffers = GuestMemoryMmap::default();
        if self.mappings.iter_mut().any(|mapping| Arc::get_mut(mapping).is_none()) {
            tracing::error!("guest memory is still referenced, its mapping is leaked");
            self.reservation.leak();
        }
    }
}

/// File offsets of the regions, each at a multiple of 1 GiB, and the size of the file. `None` if they overflow.
fn file_offsets(ram: &[GuestRange]) -> Option<(Vec<u64>, u64)> {
    let mut end: u64 = 0;
    let mut offsets = Vec::with_capacity(ram.len());
    for region in ram {
        let offset = end.checked_next_multiple_of(RAM_ALIGN)?;
        offsets.push(offset);
        end = offset.checked_add(region.size)?;
    }
    Some((offsets, end))
}

fn create_memfd(size: u64, backing: Backing) -> Result<File, RamError> {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING | huge_page_flags(backing);
    let file = memfd(flags | libc::MFD_NOEXEC_SEAL)
        .or_else(|error| match error.raw_os_error() {
            // Kernels before 6.3 do not know the flag.
            Some(libc::EINVAL) => memfd(flags),
            _ => Err(error),
        })
        .map_err(|source| RamError::Memfd { source })?;
    file.set_len(size).map_err(|source| RamError::Size { size, source })?;
    // SAFETY: an fcntl on a descriptor we own, with an integer argument.
    let sealed = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, SEALS) };
    if sealed < 0 {
        return Err(RamError::Seal { source: io::Error::last_os_error() });
    }
    Ok(file)
}

fn memfd(flags: libc::c_uint) -> io::Result<File> {
    // SAFETY: the name is a NUL-terminated literal.
    let fd = unsafe { libc::memfd_create(c"guest-ram".as_ptr(), flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just created and nobody else owns it.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// How memfd_create(2) is told of huge pages: the logarithm of their size in the upper bits.
fn huge_page_flags(backing: Backing) -> libc::c_uint {
    let Some(page) = backing.huge_page() else { return 0 };
    libc::MFD_HUGETLB | page.trailing_zeros() << libc::MFD_HUGE_SHIFT
}

fn map_region(file: &Arc<File>, region: &RamRegion, backing: Backing) -> Result<MmapRegion, RamError> {
    let unmappable = || RamError::Unmappable { size: region.guest.size };
    let length = usize::try_from(region.guest.size).map_err(|_| unmappable())?;
    let promise = match backing.huge_page() {
        Some(page) if !region.guest.size.is_multiple_of(page) => {
            return Err(RamError::Uneven { guest: region.guest, page });
        }
        Some(_) => Promise::HugePages,
        None => Promise::Nothing,
    };
    let address =
        map_reserved(file, region.hva, length, region.offset, promise).map_err(|source| {
            match (promise, source.raw_os_error()) {
                (Promise::HugePages, Some(libc::ENOMEM)) => {
                    RamError::NoHugePages { guest: region.guest, source }
                }
                _ => RamError::Map { guest: region.guest, source },
            }
        })?;
    let builder = MmapRegionBuilder::new(length)
        .with_mmap_prot(PROT)
        .with_mmap_flags(flags(promise))
        .with_file_offset(FileOffset::from_arc(file.clone(), region.offset));
    // SAFETY: the pointer is the mapping made above, `length` bytes long; `GuestRam` unmaps it only when no
    // `MmapRegion` made here is left.
    let builder = unsafe { builder.with_raw_mmap_pointer(address.cast()) };
    builder.build().map_err(|source| RamError::Region { source })
}

/// Maps `length` bytes at `offset` of `file` over a part of our reservation, with the advice guest memory gets.
fn map_reserved(
    file: &File,
    hva: u64,
    length: usize,
    offset: u64,
    promise: Promise,
) -> io::Result<*mut libc::c_void> {
    let offset = libc::off_t::try_from(offset).map_err(io::Error::other)?;
    let at = hva as *mut libc::c_void;
    // SAFETY: `at..at + length` lies inside our own reservation, so MAP_FIXED replaces nothing of anybody else's.
    let address = unsafe { libc::mmap(at, length, PROT, flags(promise), file.as_raw_fd(), offset) };
    if address == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    for advice in [libc::MADV_DONTDUMP, libc::MADV_HUGEPAGE] {
        // SAFETY: the range was just mapped; both advices leave its contents alone.
        if unsafe { libc::madvise(address, length, advice) } < 0 {
            tracing::debug!(advice, error = %io::Error::last_os_error(), "madvise on guest memory");
        }
    }
    Ok(address)
}

fn flags(promise: Promise) -> libc::c_int {
    match promise {
        Promise::HugePages => FLAGS,
        Promise::Nothing => FLAGS | libc::MAP_NORESERVE,
    }
}

/// Faults the pages of `chunk` in, as any access would: new ones are movable and may lie in CMA.
///
/// # Errors
/// What the kernel says: ENOMEM, EFAULT where the memory behind is exhausted, EINVAL before Linux 5.14.
pub(crate) fn populate(chunk: &Chunk) -> io::Result<()> {
    loop {
        match advise(chunk.hva, chunk.guest.size, libc::MADV_POPULATE_WRITE) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN)) => (),
            result => return result,
        }
    }
}

/// Enters pages that exist into our page tables, several with each fault, which a long-term pin does one by one. Pages
/// that do not exist would be allocated as with [`populate`].
///
/// # Errors
/// As there.
pub(crate) fn show(hva: u64, size: u64) -> io::Result<()> {
    advise(hva, size, libc::MADV_POPULATE_READ)
}

/// The same for those pages of `size` bytes at `offset` of `file`, mapped at `hva`, that exist. None is allocated. Huge pages
/// of a pool are left alone: which of them exist the file does not tell (fs/hugetlbfs/inode.c has no SEEK_DATA).
///
/// # Errors
/// As there.
pub(crate) fn show_present(
    file: &File,
    backing: Backing,
    offset: u64,
    hva: u64,
    size: u64,
) -> io::Result<()> {
    if backing != Backing::Pages {
        return Ok(());
    }
    let end = offset.saturating_add(size);
    let mut at = offset;
    // Past the last page there is no data (ENXIO).
    while let Ok(data) = seek(file, SeekFrom::Data(at))
        && data < end
    {
        at = seek(file, SeekFrom::Hole(data))?.min(end);
        show(hva + (data - offset), at.saturating_sub(data))?;
    }
    Ok(())
}

fn advise(hva: u64, size: u64, advice: libc::c_int) -> io::Result<()> {
    let length = usize::try_from(size).map_err(io::Error::other)?;
    // SAFETY: both advices fault pages in and leave their contents alone, whatever lies there.
    let done = unsafe { libc::madvise(hva as *mut libc::c_void, length, advice) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A whole file of guest memory, mapped as [`GuestRam`] maps it but for other hands.
#[derive(Debug)]
pub(crate) struct FileMapping {
    file: File,
    size: u64,
    backing: Backing,
    reservation: Reservation,
}

impl FileMapping {
    /// Maps all of `file`.
    pub(crate) fn new(file: File) -> io::Result<Self> {
        let size = file.metadata()?.len();
        let reservation = Reservation::new(size).map_err(io::Error::other)?;
        let length = usize::try_from(size).map_err(io::Error::other)?;
        // Where the file has holes, no pool need promise anything.
        map_reserved(&file, reservation.aligned(), length, 0, Promise::Nothing)?;
        let backing = Backing::of(&file)?;
        Ok(Self { file, size, backing, reservation })
    }

    /// Address of its first byte, a multiple of 1 GiB.
    pub(crate) fn hva(&self) -> u64 {
        self.reservation.aligned()
    }

    /// In bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Enters those pages of a part of it that exist into our page tables.
    pub(crate) fn show(&self, offset: u64, size: u64) {
        // If not, the pin does it.
        let _ = show_present(&self.file, self.backing, offset, self.hva() + offset, size);
    }

    /// What is mapped.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }
}

/// Why guest RAM could not be created.
#[derive(Debug, Error, Diagnostic)]
pub enum RamError {
    /// `memfd_create` failed.
    #[error("cannot create the memfd for guest memory")]
    #[diagnostic(help("raise the limit on open files (ulimit -n); the kernel must offer memfd_create"))]
    Memfd {
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The memfd cannot take its size.
    #[error("cannot size the memfd to {}", Bytes(*size))]
    #[diagnostic(help("lower --memory, or raise the file size limit (ulimit -f)"))]
    Size {
        /// Bytes asked for.
        size: u64,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The memfd cannot be sealed.
    #[error("cannot seal the size of the memfd")]
    #[diagnostic(help("the kernel must offer file sealing on memfd (Linux 3.17 and later)"))]
    Seal {
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// No room in our address space.
    #[error("cannot reserve {} of address space for guest memory", Bytes(*size))]
    #[diagnostic(help("lower --memory, or lift the address space limit (ulimit -v)"))]
    Reserve {
        /// Bytes asked for.
        size: u64,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A region cannot be mapped into the reservation.
    #[error("cannot map guest memory {guest}")]
    #[diagnostic(help("lower --memory, or raise vm.max_map_count"))]
    Map {
        /// The region.
        guest: GuestRange,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A part of RAM cannot be on the node of the host that was chosen.
    #[error("guest memory {guest} cannot be bound to NUMA node {node} of the host")]
    #[diagnostic(help(
        "/sys/devices/system/node/has_memory lists nodes, and a cpuset may keep vmm off some"
    ))]
    Bind {
        /// The part.
        guest: GuestRange,
        /// The node.
        node: u32,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A region does not end where a huge page does: what the IOMMU maps does not, or a hole begins there.
    #[error("guest memory {guest} is not a whole number of huge pages of {}", Bytes(*page))]
    #[diagnostic(help("give smaller --hugepages, or another --memory"))]
    Uneven {
        /// The region.
        guest: GuestRange,
        /// The size of a page, in bytes.
        page: u64,
    },
    /// The pool has too few after all.
    #[error("the pool has too few huge pages left for guest memory {guest}")]
    #[diagnostic(help(
        "somebody else has taken them meanwhile: enlarge the pool (nr_hugepages), or lower --memory"
    ))]
    NoHugePages {
        /// The region.
        guest: GuestRange,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The size fits no address space.
    #[error("guest memory of {} cannot be mapped", Bytes(*size))]
    #[diagnostic(help("lower --memory"))]
    Unmappable {
        /// Bytes asked for.
        size: u64,
    },
    /// vm-memory refused one region.
    #[error("guest memory region refused")]
    Region {
        /// What vm-memory said.
        #[source]
        source: vm_memory::mmap::MmapRegionError,
    },
    /// vm-memory refused the set of regions.
    #[error("guest memory regions refused")]
    Regions {
        /// What vm-memory said.
        #[source]
        source: vm_memory::GuestRegionCollectionError,
    },
}

#[cfg(test)]
#[path = "ram_test.rs"]
mod tests;
