//! A start maps five times as much code as a guest that runs: what it leaves behind is given back, so that a host
//! with many guests holds little for each. Nothing is lost that could not be had again.
//!
//! # Unsafe
//! Walks the program headers that the kernel mapped, drops clean pages of the binary, trims glibc's heap.
#![expect(unsafe_code, reason = "dl_iterate_phdr, madvise, malloc_trim")]

use std::ffi::c_void;
use std::io;
use std::ptr;

const PAGE: usize = 4096;

/// Forgets the pages of our binary that were read so far, but for those with data of ours: what is needed again is taken from
/// the page cache, piece by piece. Gives free heap back.
pub(super) fn forget_start() {
    // SAFETY: the callback only looks at what it is given, and returns.
    unsafe { libc::dl_iterate_phdr(Some(forget_segments), ptr::null_mut()) };
    // SAFETY: no argument but a size; the heap stays as consistent as after any free.
    unsafe { libc::malloc_trim(0) };
}

/// The binary is the first object, and as it is static, the only one but the vDSO.
extern "C" fn forget_segments(info: *mut libc::dl_phdr_info, _: usize, _: *mut c_void) -> libc::c_int {
    // SAFETY: the caller's promise: `info` is valid during the call, and has `dlpi_phnum` headers.
    let (base, headers) = unsafe {
        let info = &*info;
        (info.dlpi_addr as usize, std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()))
    };
    for header in headers.iter().filter(|it| it.p_type == libc::PT_LOAD && it.p_flags & libc::PF_W == 0) {
        let start = base + header.p_vaddr as usize;
        let end = (start + header.p_memsz as usize).next_multiple_of(PAGE);
        let start = start / PAGE * PAGE;
        // SAFETY: a segment of the binary that is mapped privately from its file and cannot be written to: a page that is
        // dropped is read from the file again when it is touched, by this thread or another.
        if unsafe { libc::madvise(start as *mut c_void, end - start, libc::MADV_DONTNEED) } < 0 {
            tracing::debug!(error = %io::Error::last_os_error(), "code of the start stays mapped");
        }
    }
    1
}
