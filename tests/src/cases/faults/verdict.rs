//! Whether a start that met a fault got over it, from what it said and left behind. Pure.

/// What came of a start. Each is as good as the others, where it is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Survival {
    /// It went on as if nothing had happened.
    WentOn,
    /// It ended with a message that says why and what to do, and with the exit code for that.
    Refused,
    /// It was killed, as was the intent.
    Killed,
}

/// A start, and what there was after it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Try {
    /// Which point the fault was at.
    pub(super) point: u64,
    /// As the shell has it: 128 and the signal for one that was killed.
    pub(super) status: i32,
    /// What stays behind; empty if nothing does.
    pub(super) left: String,
    /// All it said.
    pub(super) said: String,
}

/// The status of a process that was killed.
const KILLED: i32 = 128 + 9;
/// What nobody should ever read.
const NEVER: [&str; 3] = ["panicked at", "this should not happen", "memory allocation of"];

impl Try {
    /// What came of it, if it may end with `codes` besides 0.
    ///
    /// # Errors
    /// In what way it was lost.
    pub(super) fn survival(&self, codes: &[i32], may_be_killed: bool) -> Result<Survival, String> {
        let lost = |why: String| Err(format!("at {}: {why}: {}", self.point, self.said.trim_end()));
        if !self.left.is_empty() {
            return lost(format!("left behind: {}", self.left));
        }
        if let Some(said) = NEVER.iter().find(|never| self.said.contains(**never)) {
            return lost(format!("it says {said:?}"));
        }
        match self.status {
            0 => Ok(Survival::WentOn),
            KILLED if may_be_killed => Ok(Survival::Killed),
            status if codes.contains(&status) => {
                let (error, help) = (self.said.contains("error: "), self.said.contains(" help: "));
                if error && help {
                    Ok(Survival::Refused)
                } else {
                    lost(format!("status {status} without cause and remedy"))
                }
            }
            status => lost(format!("status {status}")),
        }
    }
}

/// The tries that the shell wrote down: `@ POINT STATUS LEFT` each, then what was said, a `|` before each line.
pub(super) fn read(text: &str) -> Vec<Try> {
    let mut tries: Vec<Try> = Vec::new();
    for line in text.lines() {
        if let Some(head) = line.strip_prefix("@ ") {
            let mut words = head.splitn(3, ' ');
            let mut word = || words.next().unwrap_or_default();
            let (point, status) = (word().parse().unwrap_or_default(), word().parse().unwrap_or(-1));
            tries.push(Try { point, status, left: word().trim().to_owned(), said: String::new() });
        } else if let (Some(said), Some(last)) = (line.strip_prefix('|'), tries.last_mut()) {
            last.said += said;
            last.said.push('\n');
        }
    }
    tries
}

#[cfg(test)]
#[path = "verdict_test.rs"]
mod tests;
