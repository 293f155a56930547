//! A fault, and how it is inflicted: one shell in the host runs start after start and writes down what comes of each.

use super::PLACE;
use super::tally::Tally;
use super::verdict::{self, Survival};
use crate::suite::{Ctx, TestResult, ensure};

/// A fault that is tried at several points, a start for each.
pub(super) struct Fault {
    /// What is done, as in the table.
    pub(super) name: &'static str,
    /// Shell: makes the host ready for it.
    pub(super) before: String,
    /// Shell: a start that meets the fault at point `$n`, run in a subshell. Its status is that of `vmm`, its output what is said.
    pub(super) attempt: String,
    /// Shell: undoes what `before` did.
    pub(super) after: String,
    pub(super) points: Vec<u64>,
    /// Exit codes that are right for it, besides 0.
    pub(super) codes: &'static [i32],
    /// What must have come of at least one try each: else the fault was not met at all.
    pub(super) shows: &'static [Survival],
}

/// Shell: `pins` is how many pages are pinned, `left` what is left of a machine after a while, nothing if nothing is. `$patient VMM`
/// is a start that is ended if it hangs, with status 134; before the lab looks for why nothing is said.
const SHELL: &str = r#"
    pins() { echo 1 > /proc/sys/vm/stat_refresh
             awk '/^nr_foll_pin_acquired/ {a = $2} /^nr_foll_pin_released/ {r = $2} END {print a - r}' /proc/vmstat; }
    left() { for i in $(seq 100); do
                 r=$(pidof vmm vmm-pin-helper); p=$(pins)
                 [ -z "$r" ] && [ $p = $pinned ] && return
                 usleep 100000
             done; echo "processes $r, $((p - pinned)) pages"; }
    patient="timeout -s ABRT 40"
    pinned=$(pins)"#;

/// How long a whole sweep may take, in seconds.
const DEADLINE: u64 = 1800;

impl Fault {
    /// Tries it at all points.
    pub(super) fn inflict(&self, ctx: &Ctx, tally: &mut Tally) -> TestResult {
        let Fault { name, before, attempt, after, points, codes, shows } = self;
        let points: Vec<String> = points.iter().map(u64::to_string).collect();
        let script = format!(
            "{SHELL}\n{before}\nfor n in {}; do\n({attempt}\n) > {PLACE}/said 2>&1 < /dev/null; s=$?\n\
             echo \"@ $n $s $(left)\"; head -c 1500 {PLACE}/said | sed 's/^/|/'; echo\ndone\n{after}\n:",
            points.join(" ")
        );
        let output = ctx.run(&script).deadline(DEADLINE).output()?;
        ensure!(output.status == 0, "{name}: the shell ended with status {}", output.status);
        let tries = verdict::read(&output.stdout);
        ensure!(tries.len() == points.len(), "{name}: {} of {} tries were made", tries.len(), points.len());
        let may_be_killed = shows.contains(&Survival::Killed);
        tally.add(name, tries.iter().map(|it| it.survival(codes, may_be_killed)).collect(), shows);
        Ok(())
    }
}
