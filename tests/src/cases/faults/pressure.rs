//! Control groups whose memory does not suffice.

use super::fault::Fault;
use super::verdict::Survival;
use super::{Scale, bare, with_drive};

const GROUP: &str = "/sys/fs/cgroup/faults";

pub(super) fn all(scale: Scale) -> Vec<Fault> {
    let fault = |name, vmm: String, points, shows| Fault {
        name,
        before: format!(
            "echo +memory > /sys/fs/cgroup/cgroup.subtree_control; mkdir {GROUP}; echo 0 > {GROUP}/memory.swap.max"
        ),
        // In MiB. The shell is not in it: it has to tell what came of it.
        attempt: format!(
            "echo ${{n}}M > {GROUP}/memory.max; exec $patient sh -c 'echo $$ > {GROUP}/cgroup.procs; exec vmm {vmm}'"
        ),
        after: format!("rmdir {GROUP}"),
        points,
        codes: &[4],
        shows,
    };
    vec![
        fault(
            "a memory limit of the cgroup that the guest's memory does not fit into",
            with_drive("off"),
            scale.points(1..=24, 12),
            &[Survival::Refused, Survival::WentOn],
        ),
        // Nothing is refused where memory is allocated as it is touched; here it is at once.
        fault(
            "a memory limit of the cgroup that is found out too late (OOM kill)",
            format!("{} --prefault populate --pin-verify off", bare("off")),
            scale.points(1..=24, 12),
            &[Survival::Killed, Survival::WentOn],
        ),
    ]
}
