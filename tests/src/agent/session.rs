//! One command in a lab host: its process, its streams, its end.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rustix::process::{Pid, Signal};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use super::PATH;
use super::serve::Port;
use crate::process;
use crate::wire::{CHUNK, ExecRequest, Frame, Size};

/// A command that was started.
pub(super) struct Session {
    group: Option<Pid>,
    terminal: Option<OwnedFd>,
    /// Bytes for standard input; `None` once it has ended.
    stdin: Mutex<Option<Sender<Vec<u8>>>>,
    over: Arc<AtomicBool>,
}

/// A child with this side's ends of its streams.
struct Started {
    child: Child,
    stdin: Box<dyn Write + Send>,
    outputs: Vec<(Box<dyn Read + Send>, Stream)>,
    terminal: Option<OwnedFd>,
}

type Stream = fn(Vec<u8>) -> Frame;

impl Session {
    /// Starts the command. One that cannot be started ends at once, as a shell's would: with a line on
    /// standard error and status 127 (not found) or 126.
    pub(super) fn start(id: u32, request: &ExecRequest, port: &Port) -> Option<Session> {
        let started = match spawn(request) {
            Ok(started) => started,
            Err(e) => {
                let program = request.argv.first().map_or("", String::as_str);
                port.send(id, &Frame::Stderr(format!("lab: cannot run {program:?}: {e}\n").into_bytes()));
                let status = if e.kind() == io::ErrorKind::NotFound { 127 } else { 126 };
                port.send(id, &Frame::Exit(status));
                return None;
            }
        };
        let Started { child, stdin, outputs, terminal } = started;
        let group = Pid::from_raw(child.id().cast_signed());
        let over = Arc::new(AtomicBool::new(false));
        let (sender, receiver) = mpsc::channel();
        let of_stdin = port.clone();
        thread::spawn(move || feed(id, &receiver, stdin, &of_stdin));
        let of_end = (port.clone(), Arc::clone(&over));
        thread::spawn(move || {
            let (port, over) = of_end;
            let status = attend(id, child, group, outputs, &port);
            over.store(true, Ordering::Release);
            port.send(id, &Frame::Exit(status));
        });
        Some(Session { group, terminal, stdin: Mutex::new(Some(sender)), over })
    }

    /// Whether the command has ended.
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// Acts on a frame for this command.
    pub(super) fn take(&self, frame: Frame) {
        let mut stdin = self.stdin.lock().unwrap_or_else(PoisonError::into_inner);
        match frame {
            Frame::Stdin(bytes) => {
                if let Some(sender) = &*stdin {
                    // The receiver leaves when the command ended; the bytes then have no reader.
                    let _ = sender.send(bytes);
                }
            }
            Frame::StdinEnd => *stdin = None,
            Frame::Resize(size) => {
                if let Some(terminal) = &self.terminal {
                    let _ = rustix::termios::tcsetwinsize(terminal, window(size));
                }
            }
            Frame::Kill if !self.is_over() => kill(self.group),
            _ => {}
        }
    }
}

fn spawn(request: &ExecRequest) -> io::Result<Started> {
    let (program, arguments) =
        request.argv.split_first().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "empty command"))?;
    let mut command = Command::new(program);
    command.args(arguments).current_dir("/lab").env_clear();
    command.envs([("PATH", PATH), ("HOME", "/root"), ("USER", "root"), ("TERM", "linux")]);
    command.envs(request.env.iter().map(|(key, value)| (key, value)));
    process::leads_session(&mut command, request.terminal.is_some());
    match request.terminal {
        None => {
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = command.spawn()?;
            let missing = || io::Error::other("a pipe is missing");
            let stdin = child.stdin.take().ok_or_else(missing)?;
            let stdout = child.stdout.take().ok_or_else(missing)?;
            let stderr = child.stderr.take().ok_or_else(missing)?;
            let outputs: Vec<(Box<dyn Read + Send>, Stream)> =
                vec![(Box::new(stdout), Frame::Stdout), (Box::new(stderr), Frame::Stderr)];
            Ok(Started { child, stdin: Box::new(stdin), outputs, terminal: None })
        }
        Some(size) => {
            let terminal =
                rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
            rustix::pty::grantpt(&terminal)?;
            rustix::pty::unlockpt(&terminal)?;
            let name = rustix::pty::ptsname(&terminal, Vec::new())?;
            let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
            let other = rustix::fs::open(name.as_c_str(), flags, rustix::fs::Mode::empty())?;
            rustix::termios::tcsetwinsize(&terminal, window(size))?;
            command.stdin(other.try_clone()?).stdout(other.try_clone()?).stderr(other);
            let child = command.spawn()?;
            let stdin = File::from(terminal.try_clone()?);
            let stdout = File::from(terminal.try_clone()?);
            let outputs: Vec<(Box<dyn Read + Send>, Stream)> = vec![(Box::new(stdout), Frame::Stdout)];
            Ok(Started { child, stdin: Box::new(stdin), outputs, terminal: Some(terminal) })
        }
    }
}

/// Writes what arrives to the command's standard input, and says how much it took. When the command no
/// longer reads, the bytes are dropped but still counted, so that the lab is not left waiting.
fn feed(id: u32, bytes: &Receiver<Vec<u8>>, mut stdin: Box<dyn Write + Send>, port: &Port) {
    let mut reads = true;
    for chunk in bytes {
        if reads {
            reads = stdin.write_all(&chunk).is_ok();
        }
        port.send(id, &Frame::Taken(chunk.len() as u32));
    }
}

/// Copies the command's output until all of it is out and the command has ended; gives its exit status.
fn attend(
    id: u32,
    mut child: Child,
    group: Option<Pid>,
    outputs: Vec<(Box<dyn Read + Send>, Stream)>,
    port: &Port,
) -> i32 {
    thread::scope(|scope| {
        for (output, stream) in outputs {
            scope.spawn(move || copy(id, output, stream, port));
        }
        let status = child.wait();
        // What it left running in the background ends with it, and lets go of its output.
        kill(group);
        status
    })
    .map_or(126, |status| status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(126))
}

fn copy(id: u32, mut output: Box<dyn Read + Send>, stream: Stream, port: &Port) {
    let mut buffer = vec![0; CHUNK];
    loop {
        match output.read(&mut buffer) {
            // A terminal reports its other end's closing as an error, a pipe as an end of file.
            Ok(0) | Err(_) => return,
            Ok(n) => port.send(id, &stream(buffer.get(..n).unwrap_or_default().to_vec())),
        }
    }
}

fn kill(group: Option<Pid>) {
    if let Some(group) = group {
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
    }
}

fn window(size: Size) -> Winsize {
    Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 }
}
