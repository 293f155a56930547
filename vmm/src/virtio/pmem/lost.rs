//! A file behind persistent memory that is cut short while a guest has it, or that its medium does not give any more: whoever
//! touches what is gone cannot go on. A vCPU's KVM_RUN fails (`EFAULT`), or does not come back ([`watch`](super::watch)); a thread that
//! copies for a device gets SIGBUS, which would end the process without a word.
//!
//! # Unsafe
//! A signal handler, and what it reads: a list that is never freed.
#![expect(unsafe_code, reason = "a signal handler and what it reads")]

use std::ffi::c_void;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::{mem, ptr};

use devices::virtio::pmem::PmemFile;
use memory::GuestRam;
use miette::Diagnostic;
use thiserror::Error;

use crate::console::terminal;
use crate::hypervisor::vcpu::GuestFailure;
use crate::problem::Class;

/// A part of a file has gone.
#[derive(Debug, Error, Diagnostic)]
#[error("the pmem file {} has lost a part that the guest has", path.display())]
#[diagnostic(help(
    "it was cut short while the machine ran, or its medium fails (`dmesg`): give it its size back (truncate) and start again"
))]
pub struct Lost {
    path: PathBuf,
    /// What noticed.
    #[source]
    failure: Option<GuestFailure>,
}

/// The file that was cut short, if one was.
pub(super) fn cut_short(files: &[Arc<PmemFile>], ram: &GuestRam) -> Option<Lost> {
    let mut both = files.iter().zip(ram.persistent());
    let (file, _) = both.find(|(_, memory)| !memory.is_whole())?;
    Some(Lost { path: file.path().to_owned(), failure: None })
}

/// What made a vCPU fail: the file that was cut short, if one was.
pub(crate) fn blame(
    failure: GuestFailure,
    files: &[Arc<PmemFile>],
    ram: &GuestRam,
) -> Result<Lost, GuestFailure> {
    let fault = matches!(&failure, GuestFailure::Run { source, .. }
        if source.source.raw_os_error() == Some(libc::EFAULT));
    match cut_short(files, ram).filter(|_| fault) {
        Some(lost) => Ok(Lost { failure: Some(failure), ..lost }),
        None => Err(failure),
    }
}

/// Where a file is mapped, and what is said of it.
struct Mapped {
    start: u64,
    end: u64,
    said: String,
}

/// Those of the machine that runs, or ran last; null without any.
static MAPPED: AtomicPtr<Vec<Mapped>> = AtomicPtr::new(ptr::null_mut());

/// From now on a SIGBUS for one of the files is explained before it ends the process. The terminal is in raw mode by now, if it is to be.
pub(crate) fn explain(files: &[Arc<PmemFile>], ram: &GuestRam) {
    if files.is_empty() {
        return;
    }
    let mapped = |(file, memory): (&Arc<PmemFile>, &memory::PersistentMemory)| {
        let lost = Lost { path: file.path().to_owned(), failure: None };
        let help = lost.help().map(|help| help.to_string()).unwrap_or_default();
        let said = format!("\r\nerror: {lost}\r\n   help: {help}\r\n");
        Mapped { start: memory.hva(), end: memory.hva() + memory.guest().size, said }
    };
    let all: Vec<Mapped> = files.iter().zip(ram.persistent()).map(mapped).collect();
    // Kept for the rest of the process: a signal handler may still be reading the one before.
    MAPPED.store(Box::leak(Box::new(all)), Ordering::SeqCst);
    let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut c_void) = bus_error;
    // SAFETY: all zeroes is an empty mask and no flags; the handler has the signature that SA_SIGINFO asks for.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = handler as *const () as libc::sighandler_t;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut());
    }
}

/// Async-signal-safe: allocates nothing and takes no locks.
extern "C" fn bus_error(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut c_void) {
    terminal::restore();
    // SAFETY: the kernel hands a siginfo to handlers with SA_SIGINFO, with an address for a SIGBUS of its own.
    let address = unsafe { (*info).si_addr() } as u64;
    // SAFETY: null, or a list that lives as long as the process.
    let mapped = unsafe { MAPPED.load(Ordering::SeqCst).as_ref() }.map(Vec::as_slice).unwrap_or_default();
    let lost = mapped.iter().find(|it| (it.start..it.end).contains(&address));
    // SAFETY: plain calls that signal handlers may make, with text that is alive. Back from here, the access is made again, and
    // without a handler it ends the process.
    unsafe {
        match lost {
            Some(Mapped { said, .. }) => {
                libc::write(libc::STDERR_FILENO, said.as_ptr().cast(), said.len());
                libc::_exit(Class::Host as i32)
            }
            None => libc::signal(signal, libc::SIG_DFL),
        };
    }
}

#[cfg(test)]
#[path = "lost_test.rs"]
mod tests;
