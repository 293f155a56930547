//! Guest memory in pages of the size that is asked for. Shared by the benchmarks.

use memory::residency::Vmstat;
use memory::{AddressLimits, GuestRam, Layout};
use rustix::thread::disable_transparent_huge_pages;

/// Size of the host's pages behind guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageSize {
    Small,
    Huge,
}

impl PageSize {
    pub(crate) const ALL: [Self; 2] = [Self::Small, Self::Huge];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Small => "4K",
            Self::Huge => "THP",
        }
    }

    /// Fresh memory that will have such pages. It holds for this process and those it starts from now on.
    pub(crate) fn ram(self, bytes: u64) -> GuestRam {
        disable_transparent_huge_pages(self == Self::Small).unwrap();
        GuestRam::new(&Layout::new(bytes, &AddressLimits::cpu_only(40)).unwrap()).unwrap()
    }

    /// Whether the kernel gave such pages, since `before`, for `bytes` of memory.
    pub(crate) fn was_given(self, before: &Vmstat, bytes: u64) -> bool {
        let huge = Vmstat::read().unwrap().since(before).thp_file_alloc;
        match self {
            Self::Small => huge < bytes >> 26,
            Self::Huge => huge >= bytes >> 21,
        }
    }
}

/// What to do where there are none.
pub(crate) const NO_HUGE_PAGES: &str =
    "no huge pages to be had: echo advise > /sys/kernel/mm/transparent_hugepage/shmem_enabled";
