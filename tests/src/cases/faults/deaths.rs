//! Processes that are killed or stopped at every line that a start logs: each step of it logs one.

use super::fault::Fault;
use super::verdict::Survival;
use super::{PLACE, Scale, with_drive};

/// A start with `-vv` whose log is watched: `blow` comes when it has said `$n` lines. `$vmm` is its process.
fn at_line(flags: &str, blow: &str) -> String {
    format!(
        "log={PLACE}/log; rm -f $log; mkfifo $log; $patient vmm -vv {flags} > $log 2>&1 &
         i=0; while read -r line; do
             echo \"$line\"; i=$((i + 1))
             if [ $i = $n ]; then vmm=$(pidof vmm); {blow}; fi
         done < $log; wait $!"
    )
}

/// Lines that a start logs, at most: later blows come too late, which does no harm.
const LINES: u64 = 18;

pub(super) fn all(scale: Scale) -> Vec<Fault> {
    let fault = |name, flags: String, blow: &str, points, shows| Fault {
        name,
        before: String::new(),
        attempt: at_line(&flags, blow),
        after: String::new(),
        points,
        codes: &[],
        shows,
    };
    let [iommufd, container] =
        ["iommufd", "container"].map(|backend| format!("{},backend={backend}", with_drive("off")));
    let kill = "kill -9 $vmm";
    // Helpers run from when memory is brought up, the third line, until it is up.
    let pinning = scale.or(1..=5, &[3]);
    let jump = |seconds: &str| {
        // To where it was before, by what has gone by since.
        format!(
            "kill -STOP $(pidof vmm-pin-helper) 2>/dev/null; date -s @$(($(date +%s) {seconds})) > /dev/null"
        )
    };
    vec![
        fault(
            "kill -9 of vmm, iommufd",
            iommufd.clone(),
            kill,
            scale.or(1..=LINES, &[1, 13]),
            &[Survival::Killed],
        ),
        fault("kill -9 of vmm, container", container, kill, scale.or(1..=LINES, &[13]), &[Survival::Killed]),
        fault(
            "kill -9 of pin helpers",
            iommufd.clone(),
            "kill -9 $(pidof vmm-pin-helper) 2>/dev/null",
            scale.or(1..=LINES, &[3]),
            &[Survival::WentOn],
        ),
        fault(
            "SIGSTOP of pin helpers, for good",
            iommufd.clone(),
            "kill -STOP $(pidof vmm-pin-helper) 2>/dev/null",
            pinning.clone(),
            &[Survival::WentOn],
        ),
        fault(
            "SIGSTOP of pin helpers, for a second",
            iommufd.clone(),
            "kill -STOP $(pidof vmm-pin-helper) 2>/dev/null; sleep 1; kill -CONT $(pidof vmm-pin-helper) 2>/dev/null",
            pinning.clone(),
            &[Survival::WentOn],
        ),
        Fault {
            after: "date -s @$(($(date +%s) - 86400 * tries)) > /dev/null".to_owned(),
            before: format!("tries={}", pinning.len()),
            ..fault(
                "the clock goes forward by a day, while pin helpers are stopped",
                iommufd.clone(),
                &jump("+ 86400"),
                pinning.clone(),
                &[Survival::WentOn],
            )
        },
        Fault {
            after: "date -s @$(($(date +%s) + 86400 * tries)) > /dev/null".to_owned(),
            before: format!("tries={}", pinning.len()),
            ..fault(
                "the clock goes back by a day, while pin helpers are stopped",
                iommufd,
                &jump("- 86400"),
                pinning.clone(),
                &[Survival::WentOn],
            )
        },
    ]
}
