//! Requests that take long: how far they are, on a terminal; and waiting for a guest to be gone.

use std::io::IsTerminal;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::client::{Answer, Client, ClientError};
use crate::stderr::say;

/// How often it is looked.
const TICK: Duration = Duration::from_millis(250);

/// Makes a request, and shows how far the start is until it is answered.
pub(crate) fn with_progress(
    client: &Client,
    request: impl FnOnce() -> Result<Answer, ClientError> + Send,
) -> Result<Answer, ClientError> {
    if !std::io::stderr().is_terminal() {
        return request();
    }
    thread::scope(|scope| {
        let (done, waiting) = mpsc::channel::<()>();
        scope.spawn(move || {
            while waiting.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                let state = client.get("/vmm/v1/state").ok();
                let state = state.and_then(|answer| serde_json::from_slice::<Value>(&answer.body).ok());
                if let Some(line) = state.as_ref().and_then(line) {
                    say!("\r{line}\x1b[K");
                }
            }
            say!("\r\x1b[K");
        });
        let answer = request();
        drop(done);
        answer
    })
}

/// `pinning 12.0 of 64.0 GiB`
fn line(state: &Value) -> Option<String> {
    let progress = state.get("progress")?;
    let gib = |name: &str| Some(progress.get(name)?.as_f64()? / f64::from(1 << 30));
    Some(format!("{} {:.1} of {:.1} GiB", progress.get("step")?.as_str()?, gib("done")?, gib("total")?))
}

/// Waits until the machine does not run any more, or its process is gone.
pub(crate) fn until_gone(client: &Client, limit: Duration) -> Result<(), ClientError> {
    let until = Instant::now() + limit;
    loop {
        let runs = client.get("/vmm/v1/state").is_ok_and(|answer| {
            let state: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            !matches!(state.get("state").and_then(Value::as_str), Some("None" | "Created"))
        });
        if !runs {
            return Ok(());
        }
        if Instant::now() >= until {
            return Err(ClientError::StillThere(limit));
        }
        thread::sleep(TICK);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn progress_is_a_line() {
        let progress = json!({ "step": "pinning", "done": 3_u64 << 30, "total": 4_u64 << 30 });
        assert_eq!(
            line(&json!({ "state": "Starting", "progress": progress })).unwrap(),
            "pinning 3.0 of 4.0 GiB"
        );
        assert_eq!(line(&json!({ "state": "Starting", "progress": null })), None);
    }
}
