//! Loads that stay on over many starts.

use std::time::Duration;

use super::plan::{Load, Pages};
use crate::host::{Deadline, Event, Host, HostError, Session};
use crate::wire::ExecRequest;

/// A load is on by then.
const ON: Duration = Duration::from_secs(180);
/// And over.
const OFF: Duration = Duration::from_secs(60);

/// A load that is on. Its processes are killed with it.
pub(super) struct Running {
    session: Option<Session>,
}

impl Running {
    /// Sets the load up and waits until it is on. Holders come with each start, not here.
    pub(super) fn begin(host: &Host, load: Load) -> Result<Running, HostError> {
        let script = match load {
            Load::Idle | Load::Holders { .. } => return Ok(Running { session: None }),
            Load::DropCaches => "echo on; while :; do echo 3 > /proc/sys/vm/drop_caches; done",
            Load::Compaction => "echo on; while :; do echo 1 > /proc/sys/vm/compact_memory; done",
            Load::Fragmented => "exec /lab/fragment",
        };
        set_pages(host, Pages::Small)?;
        let argv = ["sh", "-c", script].map(str::to_owned).to_vec();
        let session = host.exec(ExecRequest { argv, env: Vec::new(), terminal: None })?;
        let deadline = Deadline::after(ON);
        let mut said = Vec::new();
        loop {
            match session.next(deadline)? {
                Event::Stdout(bytes) if bytes.contains(&b'\n') => break,
                Event::Stdout(bytes) | Event::Stderr(bytes) => said.extend(bytes),
                Event::Exit(status) => {
                    let stderr = String::from_utf8_lossy(&said).trim().to_owned();
                    return Err(HostError::Errand { errand: script.to_owned(), status, stderr });
                }
            }
        }
        Ok(Running { session: Some(session) })
    }

    /// Ends it and waits until it is over. It is an error if it was before.
    pub(super) fn end(self) -> Result<(), HostError> {
        let Some(session) = self.session else { return Ok(()) };
        session.kill();
        let deadline = Deadline::after(OFF);
        loop {
            match session.next(deadline)? {
                Event::Exit(KILLED) => return Ok(()),
                Event::Exit(status) => {
                    let (errand, stderr) = ("the load".to_owned(), "it ended by itself".to_owned());
                    return Err(HostError::Errand { errand, status, stderr });
                }
                Event::Stdout(_) | Event::Stderr(_) => {}
            }
        }
    }
}

/// Exit status of what was killed.
const KILLED: i32 = 128 + 9;

/// Has memfds made of such pages from now on.
pub(super) fn set_pages(host: &Host, pages: Pages) -> Result<(), HostError> {
    let value = pages.shmem_enabled();
    let script = format!("echo {value} > /sys/kernel/mm/transparent_hugepage/shmem_enabled");
    host.errand(&["sh", "-c", &script], &[]).map(drop)
}
