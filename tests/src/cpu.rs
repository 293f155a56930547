//! The CPU time of processes. Other work on the machine distorts it far less than the time that passes.

use std::io::{self, Read};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, WaitId, WaitIdOptions};

/// What `process` has used so far, or did until its end if it has not been waited for, with the children that it has
/// waited for. Zero if it cannot be told.
pub(crate) fn time(process: &Child) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.id())).unwrap_or_default();
    Duration::from_secs(1) * ticks(&stat)
        / u32::try_from(rustix::param::clock_ticks_per_second()).unwrap_or(100)
}

/// Runs `command` to its end, and gives its output and what it used.
pub(crate) fn output(command: &mut Command) -> io::Result<(Output, Duration)> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let stderr = thread::spawn(move || read(err));
    let stdout = read(out)?;
    let stderr = stderr.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // What it used can be read until it is waited for.
        rustix::process::waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)?;
    }
    let used = time(&child);
    Ok((Output { status: child.wait()?, stdout, stderr }, used))
}

fn read(from: Option<impl Read>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.map_or(Ok(0), |mut from| from.read_to_end(&mut bytes))?;
    Ok(bytes)
}

/// utime, stime, cutime and cstime, fields 14 to 17 of `/proc/PID/stat` (proc_pid_stat(5)), in all.
fn ticks(stat: &str) -> u32 {
    // The second field is a name in brackets, which may hold anything.
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    after_name.split_whitespace().skip(11).take(4).filter_map(|field| field.parse::<u32>().ok()).sum()
}

#[cfg(test)]
#[path = "cpu_test.rs"]
mod tests;
