//! Trial pins by udmabuf, where io_uring is not to be had.
//!
//! A udmabuf (drivers/dma-buf/udmabuf.c) pins pages of a memfd for as long as its descriptor is open, since Linux 6.12
//! long-term, with migration out of CMA and ZONE_MOVABLE (mm/gup.c, `memfd_pin_folios`). That loop does not look for
//! signals, hence the second choice. Not accounted against RLIMIT_MEMLOCK.
//!
//! # Unsafe
//! One ioctl, and taking ownership of the descriptor it returns.
#![expect(unsafe_code, reason = "ioctl UDMABUF_CREATE")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::trial::TrialUnavailable;
use crate::bytes::{GIB, MIB};
use crate::text;

/// `_IOW('u', 0x42, struct udmabuf_create)` (include/uapi/linux/udmabuf.h).
pub const UDMABUF_CREATE: u64 = 0x4018_7542;
const FLAGS_CLOEXEC: u32 = 1;
/// What one udmabuf holds at the most, unless the module says otherwise.
const SIZE_LIMIT: u64 = 64 * MIB;

#[repr(C)]
struct UdmabufCreate {
    memfd: u32,
    flags: u32,
    offset: u64,
    size: u64,
}

const _: () = assert!(size_of::<UdmabufCreate>() == 24);

/// Holds pins until they are released or it is dropped.
#[derive(Debug)]
pub struct Udmabuf {
    device: File,
    limit: u64,
    held: Vec<OwnedFd>,
}

impl Udmabuf {
    /// Opens the device.
    ///
    /// # Errors
    /// It is not there, not for us, or does not pin.
    pub fn open() -> Result<Self, TrialUnavailable> {
        if !kernel_at_least(rustix::system::uname().release().to_str().unwrap_or_default(), (6, 12)) {
            return Err(TrialUnavailable::OldUdmabuf);
        }
        let device = OpenOptions::new().read(true).write(true).open("/dev/udmabuf");
        let device = device.map_err(|source| TrialUnavailable::NoUdmabuf { source })?;
        let limit = text::read("/sys/module/udmabuf/parameters/size_limit_mb");
        let limit = limit.ok().and_then(|text| text.trim().parse::<u64>().ok());
        let limit = limit.map_or(SIZE_LIMIT, |mib| mib.saturating_mul(MIB)).clamp(MIB, GIB);
        Ok(Self { device, limit, held: Vec::new() })
    }

    /// Pins `size` bytes at `offset` of `memfd`, both page-aligned.
    ///
    /// # Errors
    /// What the kernel says; nothing of it is pinned then.
    pub fn pin(&mut self, memfd: &File, offset: u64, size: u64) -> io::Result<()> {
        let before = self.held.len();
        let mut done = 0;
        while done < size {
            let step = self.limit.min(size - done);
            match self.create(memfd, offset + done, step) {
                Ok(fd) => self.held.push(fd),
                Err(error) => {
                    self.held.truncate(before);
                    return Err(error);
                }
            }
            done += step;
        }
        Ok(())
    }

    /// Gives all pins back.
    pub fn release(&mut self) {
        self.held.clear();
    }

    fn create(&self, memfd: &File, offset: u64, size: u64) -> io::Result<OwnedFd> {
        let request = UdmabufCreate { memfd: memfd.as_raw_fd() as u32, flags: FLAGS_CLOEXEC, offset, size };
        // SAFETY: the argument is a live struct of the size the ioctl reads.
        let fd = unsafe { libc::ioctl(self.device.as_raw_fd(), UDMABUF_CREATE, &raw const request) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and nobody else owns it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

/// Whether a release such as `6.12.9-amd64` is of that version or a later one.
pub(super) fn kernel_at_least(release: &str, wanted: (u32, u32)) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|n| n.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= wanted
}

#[cfg(test)]
mod tests {
    use super::kernel_at_least;

    #[test]
    fn releases_are_compared_by_number() {
        for (release, at_least) in [
            ("6.12.0", true),
            ("6.12-rc1", true),
            ("7.3.4-cloud", true),
            ("6.1.0-56", false),
            ("6.9", false),
            ("x", false),
            ("", false),
        ] {
            assert_eq!(kernel_at_least(release, (6, 12)), at_least, "{release}");
        }
    }

    proptest::proptest! {
        #![proptest_config(crate::fuzz::thoroughly())]
        #[test]
        fn any_release_is_taken(release in crate::fuzz::hostile_text("6.12.9-amd64")) {
            proptest::prop_assert!(kernel_at_least(&release, (0, 0)));
            proptest::prop_assert!(kernel_at_least(&release, (6, 13)) <= kernel_at_least(&release, (6, 12)));
        }
    }
}
