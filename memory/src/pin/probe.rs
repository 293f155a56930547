//! What the host allows and has, as far as pinning depends on it: once for a report or a check, not on the way of a
//! start, which finds out by doing.

use std::time::Duration;

use serde::Serialize;

use super::helper::{Helper, HelperCommand};
use super::kernel::{PinFault, Trial};
use super::plan::{SUB_UNIT, Span};
use super::privilege::Memlock;
use super::trial::{Pinner, TrialUnavailable};
use crate::residency::pagemap::{Page, Pagemap};
use crate::residency::{CmaAreas, Meminfo, Zones, cma};
use crate::{AddressLimits, GuestRam, Layout, PAGE_SIZE, text};

/// How long a helper may take to pin a page.
const STALL: Duration = Duration::from_secs(2);

/// Facts about a host. Memory in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Probe {
    /// The kernel's release.
    pub kernel: String,
    /// All memory.
    pub memory: u64,
    /// Free memory, and memory that can be freed, that devices may pin.
    pub pinnable: Option<u64>,
    /// Memory in CMA areas.
    pub cma_total: u64,
    /// Free memory in CMA areas.
    pub cma_free: u64,
    /// The CMA areas, if they are all known.
    pub cma_areas: Vec<Area>,
    /// Why they are not.
    pub cma_unknown: Option<String>,
    /// What ZONE_MOVABLE spans.
    pub movable: u64,
    /// What `hugetlb_cma=` on the kernel's command line says: such huge pages cannot be pinned.
    pub hugetlb_cma: Option<String>,
    /// CMA memory that is set aside for such huge pages.
    pub hugetlb_cma_bytes: u64,
    /// What this process may pin; none for no limit.
    pub memlock: Option<u64>,
    /// Whether it may see page frames, hence whether a census is exact.
    pub sees_frames: bool,
    /// Why io_uring holds no trial pins; none if it does.
    pub io_uring: Option<String>,
    /// Why udmabuf holds none; none if it does.
    pub udmabuf: Option<String>,
}

/// A CMA area: its frames as byte ranges of physical memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Area {
    /// The kernel's name for it.
    pub name: String,
    /// Start and size of each of its ranges.
    pub ranges: Vec<(u64, u64)>,
}

impl Probe {
    /// Asks the host. One page is pinned for a moment with each means, in a `helper`: where io_uring is forbidden, trying it
    /// may be the end of a process.
    pub fn of_host(helper: Option<&HelperCommand>) -> Self {
        let meminfo = Meminfo::read().unwrap_or_default();
        let movable = Zones::read().unwrap_or_default().movable();
        let areas = CmaAreas::discover(&meminfo);
        let hugetlb_cma_bytes = if meminfo.cma_total == 0 { 0 } else { cma::hugetlb_bytes(&areas) };
        let (cma_areas, cma_unknown) = match areas {
            CmaAreas::Known(areas) => (areas, None),
            CmaAreas::Unknown { reason } => (Vec::new(), Some(reason)),
        };
        let bytes = |range: &crate::residency::PfnRange| {
            (
                range.start.saturating_mul(PAGE_SIZE),
                range.end.saturating_sub(range.start).saturating_mul(PAGE_SIZE),
            )
        };
        let area = |area: &crate::residency::CmaArea| Area {
            name: area.name.clone(),
            ranges: area.ranges.iter().map(bytes).collect(),
        };
        let lack = |pinner| try_pinner(helper, pinner).err().map(|reason| reason.to_string());
        Self {
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            memory: meminfo.total,
            pinnable: super::admit::pinnable().ok(),
            cma_total: meminfo.cma_total,
            cma_free: meminfo.cma_free,
            cma_areas: cma_areas.iter().map(area).collect(),
            cma_unknown,
            movable: movable.iter().map(|range| bytes(range).1).fold(0, u64::saturating_add),
            hugetlb_cma: text::read("/proc/cmdline").ok().and_then(|text| hugetlb_cma(&text)),
            hugetlb_cma_bytes,
            memlock: Memlock::read().limit,
            sees_frames: sees_frames(),
            io_uring: lack(Pinner::HelperIoUring),
            udmabuf: lack(Pinner::HelperUdmabuf),
        }
    }
}

/// Has a helper pin a page.
fn try_pinner(helper: Option<&HelperCommand>, pinner: Pinner) -> Result<(), TrialUnavailable> {
    let odd = |how: &str| TrialUnavailable::NoHelper { how: how.to_owned() };
    let helper = helper.ok_or_else(|| odd("none is configured"))?;
    let layout = Layout::new(SUB_UNIT * 8, &AddressLimits::cpu_only(40));
    let ram = layout.ok().and_then(|layout| GuestRam::new(&layout).ok());
    let ram = ram.ok_or_else(|| odd("there is no memory to try it with"))?;
    let chunk = ram.chunks(SUB_UNIT).into_iter().next().ok_or_else(|| odd("there is nothing to pin"))?;
    let page = chunk.part(Span { start: 0, size: PAGE_SIZE });
    match Helper::spawn(helper, pinner, ram.file(), 1, STALL)?.pin(&page, false) {
        Ok(()) => Ok(()),
        Err(PinFault::Refused(source)) if pinner == Pinner::HelperUdmabuf => {
            Err(TrialUnavailable::NoUdmabuf { source })
        }
        Err(PinFault::Refused(source)) => Err(TrialUnavailable::Refused { source }),
        Err(PinFault::Lost { loss, how }) => Err(TrialUnavailable::HelperLost { loss, how }),
    }
}

/// Whether the frame of a page that is certainly there can be seen.
fn sees_frames() -> bool {
    let here = 0u64;
    let page = (&raw const here as u64) & !(PAGE_SIZE - 1);
    let mut seen = false;
    let walked = Pagemap::open()
        .and_then(|mut pagemap| pagemap.walk(page, PAGE_SIZE, |page| seen = matches!(page, Page::Frame(_))));
    walked.is_ok() && seen
}

/// The value of the last `hugetlb_cma=` on a kernel command line.
fn hugetlb_cma(cmdline: &str) -> Option<String> {
    let words = cmdline.split_whitespace().take_while(|word| *word != "--");
    words.filter_map(|word| word.strip_prefix("hugetlb_cma=")).last().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host() {
        let _alone = crate::pin::serial();
        let probe = Probe::of_host(None);
        assert!(probe.memory > 0 && !probe.kernel.is_empty(), "{probe:?}");
        assert!(probe.cma_total > 0 || probe.cma_areas.is_empty());
        // Never in this process.
        let untried = Some("the pin helper process: none is configured".to_owned());
        assert_eq!((&probe.io_uring, &probe.udmabuf), (&untried, &untried));
    }

    #[test]
    fn hugetlb_cma_is_read_off_the_command_line() {
        assert_eq!(
            hugetlb_cma("quiet hugetlb_cma=4G hugetlb_cma=0:2G -- hugetlb_cma=1"),
            Some("0:2G".to_owned())
        );
        assert_eq!(hugetlb_cma("cma=1G hugetlb_cm"), None);
    }

    proptest::proptest! {
        #![proptest_config(crate::fuzz::thoroughly())]
        #[test]
        fn takes_any_command_line(text in crate::fuzz::hostile_text("quiet cma=1G hugetlb_cma=0:2G,1:4G -- x")) {
            proptest::prop_assert!(hugetlb_cma(&text).is_none_or(|value| text.contains(&value)));
        }
    }
}
