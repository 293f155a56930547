//! QEMU's machine protocol (QEMU's docs/interop/qmp-spec.rst): what is done to a host's hardware from outside.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use super::HostError;

/// QEMU's main loop may be kept from answering by a busy machine.
const ANSWER_DEADLINE: Duration = Duration::from_secs(60);

/// A connection to QEMU.
pub(super) struct Monitor(Mutex<Connection>);

struct Connection {
    stream: BufReader<UnixStream>,
    greeted: bool,
}

impl Monitor {
    /// On a socket whose other end QEMU has as a monitor in control mode.
    pub(super) fn new(socket: UnixStream) -> Monitor {
        Monitor(Mutex::new(Connection { stream: BufReader::new(socket), greeted: false }))
    }

    /// Does what a person would type at QEMU's prompt; gives what it prints.
    pub(super) fn command(&self, line: &str) -> Result<String, HostError> {
        let mut connection = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !connection.greeted {
            connection.execute("qmp_capabilities", &json!({}))?;
            connection.greeted = true;
        }
        let printed = connection.execute("human-monitor-command", &json!({ "command-line": line }))?;
        Ok(printed.as_str().unwrap_or_default().to_owned())
    }
}

impl Connection {
    fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value, HostError> {
        let failed = |source| HostError::Local { action: "talk to QEMU's monitor", source };
        self.stream.get_ref().set_read_timeout(Some(ANSWER_DEADLINE)).map_err(failed)?;
        let request = json!({ "execute": command, "arguments": arguments });
        self.stream.get_mut().write_all(format!("{request}\n").as_bytes()).map_err(failed)?;
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line).map_err(failed)? == 0 {
                return Err(failed(std::io::ErrorKind::UnexpectedEof.into()));
            }
            let mut answer: Value = serde_json::from_str(&line).map_err(|e| failed(e.into()))?;
            // Its greeting and events are neither.
            if let Some(answer) = answer.get_mut("return") {
                return Ok(answer.take());
            }
            if let Some(error) = answer.get("error") {
                return Err(HostError::Monitor { command: command.to_owned(), error: error.to_string() });
            }
        }
    }
}

#[cfg(test)]
#[path = "monitor_test.rs"]
mod tests;
