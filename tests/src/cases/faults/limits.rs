//! Limits on what a process may have (setrlimit(2)), from far too little to just enough.

use super::fault::Fault;
use super::verdict::Survival;
use super::{Scale, with_all, with_drive};
use crate::suite::{Ctx, TestResult};

const BOTH: &[Survival] = &[Survival::Refused, Survival::WentOn];
/// Somebody without rights may have what they need.
const OPEN: &str = "echo somebody:x:65534:65534::/:/bin/sh >> /etc/passwd; chmod 666 /dev/kvm /dev/iommu $(find /dev/vfio -type c)";
const CLOSE: &str =
    "sed -i /^somebody/d /etc/passwd; chmod 600 /dev/kvm /dev/iommu $(find /dev/vfio -type c)";

pub(super) fn all(ctx: &Ctx, scale: Scale) -> TestResult<Vec<Fault>> {
    let meddle = ctx.program("meddle")?;
    let limit = |name, letter: &str, vmm: String, points, codes| Fault {
        name,
        before: String::new(),
        attempt: format!("ulimit -{letter} $n; exec {vmm}"),
        after: String::new(),
        points,
        codes,
        shows: BOTH,
    };
    let start = format!("$patient vmm {}", with_drive("off"));
    // The shell itself needs a dozen of files. 6: a thread that cannot be confined for lack of one.
    let files = scale.points(14..=64, 25);
    // KiB; 1 GiB is reserved besides memory's own GiB, to align it.
    let space = scale.points(0..=40, 40).into_iter().map(|step| 2_120_000 + 2000 * step);
    Ok(vec![
        limit(
            "too few open files (RLIMIT_NOFILE)",
            "n",
            format!("$patient vmm {}", with_all("off")),
            files,
            &[2, 3, 4, 6],
        ),
        limit(
            "too little address space (RLIMIT_AS)",
            "v",
            start.clone(),
            [20_000, 200_000, 2_000_000].into_iter().chain(space).collect(),
            &[3, 4],
        ),
        limit(
            "files that may not be as large as memory (RLIMIT_FSIZE)",
            "f",
            start.clone(),
            // What it says goes to a file, too.
            vec![1, 100, 32767, 32768],
            &[4],
        ),
        limit(
            "too little locked memory (RLIMIT_MEMLOCK)",
            "l",
            format!("$patient {meddle} without 14 vmm {}", with_drive("off")),
            vec![0, 64, 16380, 16384],
            &[4],
        ),
        Fault {
            name: "too few processes and threads (RLIMIT_NPROC)",
            before: OPEN.to_owned(),
            attempt: format!(
                "ulimit -l unlimited; exec $patient su -s /bin/sh somebody -c \"ulimit -u $n; exec vmm {}\"",
                with_drive("off")
            ),
            after: CLOSE.to_owned(),
            points: scale.points(0..=8, 5),
            codes: &[3],
            shows: BOTH,
        },
    ])
}
