//! Loading a kernel and describing the machine to it.
//!
//! Plain data in, plain data out: files and guest memory are touched here, KVM is not. [`check`] tells whether
//! a [`Payload`] fits a guest before anything is allocated, [`load`] puts it into guest memory, as often as
//! the guest reboots, and [`boot_state`] turns the resulting [`Entry`] into registers of the boot CPU.
//! Fixed addresses are in [`map`].

mod bytes;
mod bzimage;
mod cmdline;
mod cpu;
mod e820;
mod elf;
mod file;
#[cfg(test)]
mod fixture;
mod initrd;
mod kernel;
pub mod map;
mod params;
mod ranges;
mod sniff;

pub use cmdline::{CmdlineError, check_cmdline};
pub use cpu::boot_state;
pub use e820::{E820Entry, E820Kind, e820};
pub use file::FileFault;
pub use initrd::{Initrd, InitrdError, InitrdFault, InitrdPart};
pub use kernel::{Kernel, KernelError, KernelFault, KernelKind};

use memory::GuestRange;
use miette::Diagnostic;
use thiserror::Error;
use vm_memory::{ByteValued, Bytes, GuestAddress, GuestMemoryError, GuestMemoryMmap};

use crate::acpi::AcpiTables;

/// What a guest boots from.
#[derive(Debug)]
pub struct Payload {
    /// The kernel.
    pub kernel: Kernel,
    /// Its initial RAM disk.
    pub initrd: Option<Initrd>,
    /// Its command line.
    pub cmdline: String,
}

/// Where and how the boot CPU enters the kernel. All addresses are guest physical.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Linux's 64-bit boot protocol.
    Linux64 {
        /// First instruction.
        rip: u64,
        /// `boot_params`.
        zero_page: u64,
    },
    /// PVH.
    Pvh {
        /// First instruction.
        eip: u32,
        /// `hvm_start_info`.
        start_info: u64,
    },
}

/// Guest memory that should be there is not.
#[derive(Debug, Error, Diagnostic)]
#[error("cannot write {what} to guest memory at {range}")]
#[diagnostic(help("this is a fault of vmm: please report it, with the output of `vmm run -vv`"))]
pub struct MemoryFault {
    /// What was to be written.
    pub what: &'static str,
    /// Where.
    pub range: GuestRange,
    /// What guest memory says to it.
    #[source]
    pub source: GuestMemoryError,
}

/// Why a guest cannot boot. Sizes are in bytes, addresses guest physical.
#[derive(Debug, Error, Diagnostic)]
pub enum BootError {
    /// No RAM from address 0 to past 1 MiB.
    #[error("the guest has no RAM from 0 to beyond {:#x}", map::KERNEL_MIN)]
    #[diagnostic(help("give it at least 16 MiB of memory"))]
    NoLowRam,
    /// Kernel against RAM below 4 GiB.
    #[error("the kernel needs guest memory at {needs}, the guest has it at {has}")]
    #[diagnostic(help("give the guest more memory: at least {} MiB", mib(needs.end())))]
    KernelDoesNotFit {
        /// The kernel's footprint.
        needs: GuestRange,
        /// Where it could be.
        has: GuestRange,
    },
    /// Initrd against what the kernel leaves of it.
    #[error("the initrd of {} MiB does not fit: {} MiB are free below {limit:#x}", mib(*size), room >> 20)]
    #[diagnostic(help("use a smaller initrd, or give the guest more memory (up to {} MiB helps)", mib(*limit)))]
    InitrdDoesNotFit {
        /// Its size.
        size: u64,
        /// The largest free range.
        room: u64,
        /// Where the kernel wants it to end.
        limit: u64,
    },
    /// The command line.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Cmdline(#[from] CmdlineError),
    /// More ranges than a kernel can be told of.
    #[error("the guest's memory map has {0} ranges, {max} are possible", max = params::E820_MAX)]
    #[diagnostic(help("give the guest less memory, or reserve fewer ranges"))]
    MemoryMapTooLong(usize),
    /// The kernel file.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Kernel(#[from] KernelError),
    /// The initrd file.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Initrd(#[from] InitrdError),
    /// Guest memory.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Memory(#[from] MemoryFault),
}

/// Everything that keeps `payload` from booting in a guest with this `ram`; nothing is read or written.
///
/// `ram` and `reserved` are as for [`load`].
pub fn check(ram: &[GuestRange], reserved: &[GuestRange], payload: &Payload) -> Vec<BootError> {
    let low = match low_ram(ram) {
        Ok(low) => low,
        Err(error) => return vec![error],
    };
    let results = [
        place_kernel(low, reserved, payload),
        place_initrd(low, reserved, payload).map(drop),
        check_cmdline(&payload.cmdline, cmdline_max(payload)).map_err(BootError::from),
        memory_map(ram, reserved).map(drop),
    ];
    results.into_iter().filter_map(Result::err).collect()
}

/// Makes guest memory that was used before fit for [`load`]: zeroes what a kernel expects to be zero. No vCPU may be running.
pub fn clear_for(memory: &GuestMemoryMmap, payload: &Payload) -> Result<(), BootError> {
    clear(memory, map::LOW, "the boot structures")?;
    // Old kernels look for tables and option ROMs here, even where they were told of better.
    clear(memory, map::ISA, "the legacy area")?;
    Ok(payload.kernel.clear(memory)?)
}

/// Puts kernel, initrd, command line, boot structures and ACPI tables into guest memory.
///
/// `ram` are the guest's RAM ranges, `reserved` what its memory map must not offer as free besides
/// (the ECAM). The memory is zero or has been through [`clear_for`]. No vCPU may be running.
pub fn load(
    memory: &GuestMemoryMmap,
    ram: &[GuestRange],
    reserved: &[GuestRange],
    payload: &Payload,
    acpi: &AcpiTables,
) -> Result<Entry, BootError> {
    let low = low_ram(ram)?;
    place_kernel(low, reserved, payload)?;
    let initrd = place_initrd(low, reserved, payload)?;
    let cmdline_max = cmdline_max(payload);
    check_cmdline(&payload.cmdline, cmdline_max)?;
    let e820 = memory_map(ram, reserved)?;

    payload.kernel.load(memory)?;
    if let (Some(file), Some(range)) = (&payload.initrd, initrd) {
        file.load(memory, range)?;
    }
    write(memory, acpi.rsdp(), acpi.bytes(), "the ACPI tables")?;
    write(memory, map::CMDLINE.start, payload.cmdline.as_bytes(), "the command line")?;
    write_words(memory, map::GDT, &cpu::GDT, "the GDT")?;

    match payload.kernel.pvh_entry() {
        Some(eip) => {
            let (info, module, memmap) = params::start_info(&e820, initrd, acpi.rsdp());
            write(memory, map::START_INFO, info.as_slice(), "the start info")?;
            if let Some(module) = module {
                write(memory, map::MODULES, module.as_slice(), "the module list")?;
            }
            let memmap: Vec<u8> = memmap.iter().flat_map(|entry| entry.as_slice()).copied().collect();
            write(memory, map::MEMMAP, &memmap, "the memory map")?;
            Ok(Entry::Pvh { eip, start_info: map::START_INFO })
        }
        None => {
            let header = payload.kernel.setup_header();
            let params = params::zero_page(header, &e820, cmdline_max as u32, initrd, acpi.rsdp());
            write(memory, map::ZERO_PAGE, params.as_slice(), "the zero page")?;
            write_words(memory, map::PAGE_TABLES, &cpu::page_tables(), "the page tables")?;
            Ok(Entry::Linux64 { rip: payload.kernel.entry(), zero_page: map::ZERO_PAGE })
        }
    }
}

/// RAM from 0 on, below 4 GiB.
fn low_ram(ram: &[GuestRange]) -> Result<GuestRange, BootError> {
    ram.iter()
        .find(|range| range.start == 0 && range.size > map::KERNEL_MIN)
        .map(|range| GuestRange::new(0, range.size.min(map::LIMIT)))
        .ok_or(BootError::NoLowRam)
}

/// What the kernel and the initrd may use.
fn usable(low: GuestRange, taken: &[GuestRange]) -> Vec<GuestRange> {
    let high = GuestRange::new(map::KERNEL_MIN, low.end().saturating_sub(map::KERNEL_MIN));
    ranges::subtract(&[high], taken)
}

fn place_kernel(low: GuestRange, reserved: &[GuestRange], payload: &Payload) -> Result<(), BootError> {
    let needs = payload.kernel.footprint();
    match usable(low, reserved).iter().any(|range| range.contains(&needs)) {
        true => Ok(()),
        false => Err(BootError::KernelDoesNotFit { needs, has: low }),
    }
}

fn place_initrd(
    low: GuestRange,
    reserved: &[GuestRange],
    payload: &Payload,
) -> Result<Option<GuestRange>, BootError> {
    let Some(initrd) = &payload.initrd else { return Ok(None) };
    let taken: Vec<_> = reserved.iter().copied().chain([payload.kernel.footprint()]).collect();
    let limit = payload.kernel.initrd_max().saturating_add(1).min(map::LIMIT);
    let size = initrd.size();
    initrd::place(size, &usable(low, &taken), limit).map(Some).map_err(|room| BootError::InitrdDoesNotFit {
        size,
        room,
        limit,
    })
}

fn memory_map(ram: &[GuestRange], reserved: &[GuestRange]) -> Result<Vec<E820Entry>, BootError> {
    let map = e820(ram, reserved);
    match map.len() {
        len if len > params::E820_MAX => Err(BootError::MemoryMapTooLong(len)),
        _ => Ok(map),
    }
}

/// What kernel and memory map have room for, without the NUL.
fn cmdline_max(payload: &Payload) -> usize {
    payload.kernel.cmdline_max().min(map::CMDLINE.size as usize - 1)
}

/// Bytes in MiB, rounded up.
fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

fn write(memory: &GuestMemoryMmap, at: u64, bytes: &[u8], what: &'static str) -> Result<(), MemoryFault> {
    memory.write_slice(bytes, GuestAddress(at)).map_err(|source| {
        let size = (bytes.len() as u64).min(u64::MAX - at);
        MemoryFault { what, range: GuestRange::new(at, size), source }
    })
}

fn write_words(
    memory: &GuestMemoryMmap,
    at: u64,
    words: &[u64],
    what: &'static str,
) -> Result<(), MemoryFault> {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    write(memory, at, &bytes, what)
}

/// Zeroes a range.
fn clear(memory: &GuestMemoryMmap, range: GuestRange, what: &'static str) -> Result<(), MemoryFault> {
    const ZEROS: &[u8] = &[0; 1 << 16];
    let mut at = range.start;
    while at < range.end() {
        let size = (range.end() - at).min(ZEROS.len() as u64);
        write(memory, at, ZEROS.get(..size as usize).unwrap_or(ZEROS), what)?;
        at += size;
    }
    Ok(())
}

#[cfg(test)]
#[path = "boot_test.rs"]
mod tests;
