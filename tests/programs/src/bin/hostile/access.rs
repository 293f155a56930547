//! Physical memory and ports.
//!
//! # Unsafe
//! Port instructions, and mappings of `/dev/mem` that are accessed within their bounds only.
#![expect(unsafe_code, reason = "in, out, iopl, mmap")]

use std::arch::asm;
use std::fs::OpenOptions;
use std::os::fd::AsRawFd;
use std::ptr;

/// A piece of the physical address space.
#[derive(Clone, Copy)]
pub(crate) struct Window {
    pub(crate) physical: u64,
    base: *mut u8,
    pub(crate) size: usize,
}

impl Window {
    pub(crate) fn map(physical: u64, size: u64) -> Window {
        let memory = OpenOptions::new().read(true).write(true).open("/dev/mem").unwrap();
        let (access, size) = (libc::PROT_READ | libc::PROT_WRITE, size as usize);
        // SAFETY: a new mapping, of memory that nothing else of this process knows.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                size,
                access,
                libc::MAP_SHARED,
                memory.as_raw_fd(),
                physical.cast_signed(),
            )
        };
        assert_ne!(base, libc::MAP_FAILED, "/dev/mem {physical:#x}: {}", std::io::Error::last_os_error());
        Window { physical, base: base.cast(), size }
    }

    /// A part of it.
    pub(crate) fn part(self, offset: usize, size: usize) -> Window {
        assert!(offset + size <= self.size);
        // SAFETY: inside the mapping.
        let base = unsafe { self.base.add(offset) };
        Window { physical: self.physical + offset as u64, base, size }
    }

    pub(crate) fn read(&self, offset: usize, width: usize) -> u64 {
        assert!(offset + width <= self.size);
        // SAFETY: inside the mapping, as was just asserted; x86 has no alignment.
        unsafe {
            let at = self.base.add(offset);
            match width {
                1 => at.read_volatile().into(),
                2 => access::<u16>(at).into(),
                4 => access::<u32>(at).into(),
                _ => access::<u64>(at),
            }
        }
    }

    pub(crate) fn write(&self, offset: usize, width: usize, value: u64) {
        assert!(offset + width <= self.size);
        // SAFETY: as for `read`.
        unsafe {
            let at = self.base.add(offset);
            match width {
                1 => asm!("mov byte ptr [{}], {}", in(reg) at, in(reg_byte) value as u8),
                2 => asm!("mov word ptr [{}], {:x}", in(reg) at, in(reg) value as u16),
                4 => asm!("mov dword ptr [{}], {:e}", in(reg) at, in(reg) value as u32),
                _ => asm!("mov qword ptr [{}], {}", in(reg) at, in(reg) value),
            }
        }
    }
}

/// One read, aligned or not.
///
/// # Safety
/// `at` is mapped for so many bytes.
unsafe fn access<T: Copy + Default>(at: *const u8) -> T {
    let mut value = T::default();
    // SAFETY: the caller's promise; `value` is as large.
    unsafe {
        match size_of::<T>() {
            2 => {
                asm!("mov {0:x}, word ptr [{1}]", "mov word ptr [{2}], {0:x}", out(reg) _, in(reg) at, in(reg) &raw mut value)
            }
            4 => {
                asm!("mov {0:e}, dword ptr [{1}]", "mov dword ptr [{2}], {0:e}", out(reg) _, in(reg) at, in(reg) &raw mut value)
            }
            _ => {
                asm!("mov {0}, qword ptr [{1}]", "mov qword ptr [{2}], {0}", out(reg) _, in(reg) at, in(reg) &raw mut value)
            }
        }
    }
    value
}

pub(crate) fn read_port(port: u16, width: usize) -> u32 {
    let value: u32;
    // SAFETY: what a port does to the machine is what this is about; no memory of ours is involved.
    unsafe {
        match width {
            1 => asm!("in al, dx", in("dx") port, out("eax") value),
            2 => asm!("in ax, dx", in("dx") port, out("eax") value),
            _ => asm!("in eax, dx", in("dx") port, out("eax") value),
        }
    }
    value
}

pub(crate) fn write_port(port: u16, width: usize, value: u32) {
    // SAFETY: as for `read_port`.
    unsafe {
        match width {
            1 => asm!("out dx, al", in("dx") port, in("eax") value),
            2 => asm!("out dx, ax", in("dx") port, in("eax") value),
            _ => asm!("out dx, eax", in("dx") port, in("eax") value),
        }
    }
}

/// Lets this process access ports.
pub(crate) fn open_ports() {
    // SAFETY: a system call without memory.
    assert_eq!(unsafe { libc::iopl(3) }, 0, "iopl");
}
