//! Page allocations of the kernel that fail, one at a time, for `vmm` and its pin helpers alone
//! (Documentation/fault-injection/fault-injection.rst).

use super::fault::Fault;
use super::verdict::Survival;
use super::{PLACE, Scale, with_all};

/// Pages that a start with all devices allocates besides guest memory; huge pages of that count as 512 each.
const PAGES: u64 = 2000;
/// With guest memory.
const ALL_PAGES: u64 = 6200;

pub(super) fn all(scale: Scale) -> Vec<Fault> {
    let (step, far) = if scale == Scale::Whole { (11, 64) } else { (900, 6000) };
    let near = (0..PAGES).step_by(step);
    let points = near.chain((PAGES..=ALL_PAGES).step_by(far)).collect();
    vec![Fault {
        name: "a page that the kernel cannot allocate",
        before: "cd /sys/kernel/debug/fail_page_alloc; echo 1 > interval; echo 0 > verbose; echo N > ignore-gfp-wait
                 echo N > ignore-gfp-highmem; echo 0 > min-order; echo Y > task-filter; echo 0 > times; echo 100 > probability"
            .to_owned(),
        // It waits for its configuration, and what its exec allocates is not meant.
        attempt: format!(
            "config={PLACE}/config; rm -f $config; mkfifo $config; $patient vmm {} --config $config & timeout=$!
             exec 4> $config; echo 1 > /proc/$(pidof vmm)/make-it-fail
             echo $n > space; echo 1 > times; echo cpus = 1 >&4; exec 4>&-; wait $timeout; s=$?
             [ $(cat times) = 0 ] && echo that was the page; echo 0 > times; exit $s",
            with_all("off")
        ),
        after: "echo 0 > probability; echo N > task-filter".to_owned(),
        points,
        codes: &[2, 3, 4],
        shows: &[Survival::WentOn],
    }]
}
