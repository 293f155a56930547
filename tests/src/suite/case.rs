//! A case and what it has at hand, so that it reads like what it says: run this in the host, expect that.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::matrix;
use super::samples::{self, Samples};
use super::schedule::chain;
use super::tiny::tiny_kernel;
use crate::host::{Deadline, Event, Host, HostError, HostSpec, Session, last_lines};
use crate::product::Product;
use crate::setup::{Artefacts, Daemons};
use crate::wire::{ExecRequest, Size};

/// A command that hangs is given up after so long, unless the case says otherwise.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(120);
/// When a command has said nothing for so long, it is looked whether its guest will ever go on.
const SILENCE: Duration = Duration::from_secs(20);
/// How long a command may take to end after it was killed.
const KILL_DEADLINE: Duration = Duration::from_secs(20);
/// Lines of each command's output that a failure shows.
const SHOWN: usize = 200;

/// Where the threads of the machines that still run are, and what the kernels of their guests have logged of trouble, out of their memory:
/// one that hangs no longer says it.
const LAST_WORDS: &str = r"for vmm in $(pidof vmm); do for task in /proc/$vmm/task/*; do
    echo thread $(cat $task/comm) $(cut -d ' ' -f 3 $task/stat) $(sed 's/+.*//; s/.* //' $task/stack | head -n 6)
done; for fd in /proc/$vmm/fd/*; do
    case $(readlink $fd) in /memfd:*) echo a guest of $vmm; strings -n 12 $fd |
        grep -aE -A 30 'not syncing: [^%]|RIP: 0010:|stalls on CPUs/tasks:$|blocked for more than [0-9]' | head -n 150;; esac
done; done";

/// A CPU of a guest was seen to wait for a lock with interrupts off.
pub(super) const SPINNING: &str = "[a CPU of a guest that hangs spins for a lock with its interrupts off]\n";

/// A test that runs in a lab host.
pub(crate) struct Case {
    /// Topic and promise, such as "host/cma is as asked".
    pub(crate) name: &'static str,
    pub(crate) host: HostSpec,
    pub(crate) run: fn(&Ctx) -> TestResult,
}

/// Cases whose names start so take long, and run only if they are asked for by that.
pub(super) const LONG: &str = "long/";

impl Case {
    /// Whether it runs when cases are chosen by `filter`.
    pub(super) fn is_selected(&self, filter: Option<&str>) -> bool {
        let asked_for = filter.is_some_and(|filter| filter.starts_with(LONG));
        filter.is_none_or(|filter| self.name.contains(filter)) && (asked_for || !self.name.starts_with(LONG))
    }
}

/// A case in a host of this spec. It may leave processes and devices of its host as it found them, or fail.
pub(crate) fn case(name: &'static str, host: HostSpec, run: fn(&Ctx) -> TestResult) -> Case {
    Case { name, host, run }
}

/// A case passes, or says why not.
pub(crate) type TestResult<T = ()> = Result<T, Failure>;

/// What was expected and what came instead.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl Failure {
    pub(crate) fn new(what: impl Into<String>) -> Failure {
        Failure(what.into())
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure(chain(&error))
    }
}

/// A case's view of its host. All it does is written down for the case that it fails.
pub(crate) struct Ctx<'a> {
    pub(crate) host: &'a Host,
    pub(crate) artefacts: &'a Artefacts,
    pub(crate) product: &'a Product,
    log: Mutex<String>,
    /// The options of devices that its machines had.
    used: Mutex<BTreeSet<String>>,
    /// Whether it has been looked for the cause of a command that hangs.
    looked: AtomicBool,
}

impl<'a> Ctx<'a> {
    pub(super) fn new(host: &'a Host, artefacts: &'a Artefacts, product: &'a Product) -> Ctx<'a> {
        let (log, used, looked) = Default::default();
        Ctx { host, artefacts, product, log, used, looked }
    }

    /// A command for the host's shell.
    pub(crate) fn run(&self, command: &str) -> Run<'_> {
        Run {
            ctx: self,
            command: command.to_owned(),
            stdin: Vec::new(),
            env: Vec::new(),
            terminal: None,
            deadline: DEFAULT_DEADLINE,
        }
    }

    /// Writes a file in the host.
    pub(crate) fn put(&self, path: &str, content: &[u8]) -> TestResult {
        self.note(&format!("put {} bytes at {path}\n", content.len()));
        Ok(self.host.put(path, content)?)
    }

    /// Puts the kernel of lab hosts there, for guests that need what the small one leaves out.
    pub(crate) fn put_host_kernel(&self, path: &str) -> TestResult {
        self.put(path, &std::fs::read(self.artefacts.kernel.vmlinux())?)
    }

    /// Puts a kernel of a few instructions there, for machines of whose guest no more is asked: it costs a tenth of one that boots. Gives
    /// the flags that have it run.
    pub(crate) fn tiny(&self, code: &[u8]) -> TestResult<&'static str> {
        self.put("/lab/tiny", &tiny_kernel(code))?;
        Ok("--kernel /lab/tiny --initrd none")
    }

    /// Puts a program of `tests/programs`, such as "hold", into the host; gives its path there.
    pub(crate) fn program(&self, name: &str) -> TestResult<String> {
        let path = format!("/lab/{name}");
        if self.run(&format!("test -x {path}")).output()?.status != 0 {
            self.put(&path, &std::fs::read(self.product.program(name))?)?;
        }
        Ok(path)
    }

    /// Puts a vhost-user daemon of Debian's, such as "virtiofsd", into the host; gives its path there.
    pub(crate) fn daemon(&self, name: &str) -> TestResult<String> {
        let path = format!("/lab/{name}");
        if self.run(&format!("test -x {path}")).output()?.status != 0 {
            for file in self.artefacts.daemons.files(name)? {
                self.put(&Daemons::place(&file), &std::fs::read(&file)?)?;
            }
        }
        Ok(path)
    }

    /// Does to the host's hardware what a person would type at QEMU's prompt; gives what QEMU prints.
    pub(crate) fn monitor(&self, line: &str) -> TestResult<String> {
        let printed = self.host.monitor(line)?;
        self.note(&format!("(qemu) {line}\n{printed}"));
        Ok(printed)
    }

    /// Reads a file in the host.
    pub(crate) fn get(&self, path: &str) -> TestResult<Vec<u8>> {
        Ok(self.host.get(path)?)
    }

    /// What was done so far, command by command with its output.
    pub(super) fn transcript(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The options of devices that its machines had.
    pub(super) fn into_used(self) -> BTreeSet<String> {
        self.used.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something hangs: writes down what can still be had of the guests, once.
    fn look_for_last_words(&self) {
        if !self.looked.swap(true, Ordering::Relaxed) {
            self.is_spinning();
            self.note_last_words();
        }
    }

    /// Nothing was heard for a while: whether a guest is stuck for good, which is then written down.
    fn is_stuck(&self) -> bool {
        // Nor is it looked again for what is done to find out.
        if self.looked.swap(true, Ordering::Relaxed) {
            return false;
        }
        let stuck = self.is_spinning();
        if stuck {
            self.note_last_words();
        }
        self.looked.store(stuck, Ordering::Relaxed);
        stuck
    }

    /// Whether a CPU of a guest waits for a lock with interrupts off all the time. Where the CPUs are is written down.
    fn is_spinning(&self) -> bool {
        // A guest has the small kernel, or a stock one as its host has.
        let host = self.run(&samples::spins_here()).output().map(|found| found.stdout).unwrap_or_default();
        let small = self.artefacts.guest.symbols().unwrap_or_default();
        let mut samples = Samples::new(&[&small, &host]);
        for _ in 0..samples::COUNT {
            samples.add(&self.host.monitor("info registers -a").unwrap_or_default());
        }
        self.note(&samples.to_string());
        let spinning = samples.show_spinning();
        if spinning {
            self.note(SPINNING);
        }
        spinning
    }

    fn note_last_words(&self) {
        let _ = self.monitor("info registers -a");
        let _ = self.run(LAST_WORDS).output();
    }

    fn note(&self, text: &str) {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).push_str(text);
    }
}

/// A command that has not started.
#[must_use]
pub(crate) struct Run<'a> {
    ctx: &'a Ctx<'a>,
    command: String,
    stdin: Vec<u8>,
    env: Vec<(String, String)>,
    terminal: Option<Size>,
    deadline: Duration,
}

impl<'a> Run<'a> {
    /// Its whole standard input; empty without this.
    pub(crate) fn stdin(self, bytes: impl Into<Vec<u8>>) -> Run<'a> {
        Run { stdin: bytes.into(), ..self }
    }

    /// A variable of its environment.
    pub(crate) fn env(mut self, key: &str, value: &str) -> Run<'a> {
        self.env.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Runs it on a terminal of 24 lines.
    pub(crate) fn on_terminal(self) -> Run<'a> {
        Run { terminal: Some(Size { rows: 24, columns: 80 }), ..self }
    }

    /// It fails, and is killed, if it takes longer.
    pub(crate) fn deadline(self, seconds: u64) -> Run<'a> {
        Run { deadline: Duration::from_secs(seconds), ..self }
    }

    /// Runs it to its end, whatever that is.
    pub(crate) fn output(self) -> TestResult<Output> {
        let stdin = self.stdin.clone();
        let running = self.start()?;
        // The writer gives up when the command ends, at the latest when it is killed.
        let writer = running.session.stdin();
        std::thread::spawn(move || writer.write_all_and_end(&stdin));
        running.finish()
    }

    /// Runs it to its end, which is to be status 0.
    pub(crate) fn expect_success(self) -> TestResult<Output> {
        self.expect_status(0)
    }

    /// Runs it to its end, which is to be this status.
    pub(crate) fn expect_status(self, status: i32) -> TestResult<Output> {
        let output = self.output()?;
        if output.status == status {
            Ok(output)
        } else {
            let (command, got) = (&output.command, output.status);
            Err(Failure(format!("`{command}` ended with status {got}, not {status}")))
        }
    }

    /// Starts it, to be talked to. Its standard input stays open.
    pub(crate) fn start(self) -> TestResult<Interactive<'a>> {
        let argv = ["sh", "-c", &self.command].map(str::to_owned).to_vec();
        let request = ExecRequest { argv, env: self.env, terminal: self.terminal };
        let session = self.ctx.host.exec(request)?;
        Ok(Interactive {
            ctx: self.ctx,
            command: self.command,
            session,
            started: Instant::now(),
            until: Deadline::after(self.deadline),
            stdout: Vec::new(),
            stderr: Vec::new(),
            searched: 0,
            status: None,
            noted: false,
        })
    }
}

/// A command that is running.
pub(crate) struct Interactive<'a> {
    ctx: &'a Ctx<'a>,
    command: String,
    session: Session,
    started: Instant,
    until: Deadline,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    /// Bytes of standard output in which `wait_for` has found what it looked for.
    searched: usize,
    status: Option<i32>,
    noted: bool,
}

impl Interactive<'_> {
    /// Writes to its standard input, or types on its terminal.
    pub(crate) fn send(&self, text: impl AsRef<[u8]>) {
        self.session.stdin().write_all(text.as_ref());
    }

    /// Ends its standard input.
    pub(crate) fn end_of_input(&self) {
        self.session.stdin().end();
    }

    /// Waits until it has printed `text` after what was waited for before; gives what it printed up to there.
    pub(crate) fn wait_for(&mut self, text: &str) -> TestResult<String> {
        loop {
            let rest = self.stdout.get(self.searched..).unwrap_or_default();
            if let Some(at) = rest.windows(text.len()).position(|window| window == text.as_bytes()) {
                let found =
                    String::from_utf8_lossy(rest.get(..at + text.len()).unwrap_or_default()).into_owned();
                self.searched += at + text.len();
                return Ok(found);
            }
            if let Some(status) = self.status {
                let command = &self.command;
                return Err(Failure(format!(
                    "`{command}` ended (status {status}) without printing {text:?}"
                )));
            }
            self.step().map_err(|e| Failure(format!("waiting for {text:?}: {}", e.0)))?;
        }
    }

    /// Whether it prints `text` within so many seconds, for what may never come.
    pub(crate) fn prints_within(&mut self, seconds: u64, text: &str) -> bool {
        let until = std::mem::replace(&mut self.until, Deadline::after(Duration::from_secs(seconds)));
        // That it does not come is no hang, so no cause is looked for.
        let looked = self.ctx.looked.swap(true, Ordering::Relaxed);
        let printed = self.wait_for(text).is_ok();
        self.ctx.looked.store(looked, Ordering::Relaxed);
        self.until = until;
        printed
    }

    /// Waits until it has printed `text`, and gives the word behind it.
    pub(crate) fn word_after(&mut self, text: &str) -> TestResult<String> {
        self.wait_for(text)?;
        let line = self.wait_for("\n")?;
        Ok(line.split_whitespace().next().unwrap_or_default().to_owned())
    }

    /// Waits for its end.
    pub(crate) fn finish(mut self) -> TestResult<Output> {
        while self.status.is_none() {
            self.step()?;
        }
        self.note();
        Ok(Output {
            command: std::mem::take(&mut self.command),
            status: self.status.unwrap_or(-1),
            stdout: String::from_utf8_lossy(&self.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&self.stderr).into_owned(),
            elapsed: self.started.elapsed(),
        })
    }

    /// Kills it and what it started, and waits for its end.
    pub(crate) fn kill(mut self) -> TestResult<Output> {
        self.session.kill();
        self.until = Deadline::after(KILL_DEADLINE);
        self.finish()
    }

    fn step(&mut self) -> TestResult {
        match self.session.next(self.until.or_after(SILENCE)) {
            Ok(Event::Stdout(bytes)) => self.stdout.extend(bytes),
            Ok(Event::Stderr(bytes)) => self.stderr.extend(bytes),
            Ok(Event::Exit(status)) => self.status = Some(status),
            Err(HostError::Deadline { .. }) if !self.until.is_over() => {
                if self.ctx.is_stuck() {
                    return Err(Failure(format!("`{}` says nothing, its guest is stuck", self.command)));
                }
            }
            Err(HostError::Deadline { after }) => {
                self.ctx.look_for_last_words();
                let (command, seconds) = (&self.command, after.as_secs());
                return Err(Failure(format!("`{command}` was not done after {seconds} s")));
            }
            Err(e) => return Err(e.into()),
        }
        Ok(())
    }

    fn note(&mut self) {
        if std::mem::replace(&mut self.noted, true) {
            return;
        }
        let mut text = format!("$ {}\n", self.command);
        for (stream, bytes) in [("", &self.stdout), ("stderr: ", &self.stderr)] {
            for line in last_lines(&String::from_utf8_lossy(bytes), SHOWN).lines() {
                text.push_str(&format!("{stream}{line}\n"));
            }
        }
        let status = self.status.map_or("still running".to_owned(), |status| format!("status {status}"));
        text.push_str(&format!("[{status} after {:.1} s]\n", self.started.elapsed().as_secs_f32()));
        self.ctx.note(&text);
        let used = matrix::used(&self.command, self.status);
        self.ctx.used.lock().unwrap_or_else(PoisonError::into_inner).extend(used);
    }
}

impl Drop for Interactive<'_> {
    fn drop(&mut self) {
        self.note();
    }
}

/// A command that has ended.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) command: String,
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) elapsed: Duration,
}

impl Output {
    /// Standard output holds `text`.
    pub(crate) fn stdout_contains(&self, text: &str) -> TestResult<&Output> {
        self.contains("standard output", &self.stdout, text)
    }

    /// Standard error holds `text`.
    pub(crate) fn stderr_contains(&self, text: &str) -> TestResult<&Output> {
        self.contains("standard error", &self.stderr, text)
    }

    /// Standard output does not hold `text`.
    pub(crate) fn stdout_lacks(&self, text: &str) -> TestResult<&Output> {
        match self.stdout.lines().find(|line| line.contains(text)) {
            None => Ok(self),
            Some(line) => Err(Failure(format!("`{}` printed {text:?}: {line}", self.command))),
        }
    }

    /// The first line of standard output that holds `text`.
    pub(crate) fn line_with(&self, text: &str) -> TestResult<&str> {
        let line = self.stdout.lines().find(|line| line.contains(text));
        line.map(|line| line.trim_end_matches('\r'))
            .ok_or_else(|| Failure(format!("`{}` printed no line with {text:?}", self.command)))
    }

    /// It took no longer than this.
    pub(crate) fn within(&self, seconds: f32) -> TestResult<&Output> {
        let took = self.elapsed.as_secs_f32();
        if took <= seconds {
            Ok(self)
        } else {
            Err(Failure(format!("`{}` took {took:.1} s, more than {seconds} s", self.command)))
        }
    }

    fn contains(&self, stream: &str, content: &str, text: &str) -> TestResult<&Output> {
        if content.contains(text) {
            Ok(self)
        } else {
            Err(Failure(format!("the {stream} of `{}` does not hold {text:?}", self.command)))
        }
    }
}

/// Fails the case with what is said unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($what:tt)+) => {
        if !$condition {
            return Err($crate::suite::Failure::new(format!($($what)+)));
        }
    };
}
pub(crate) use ensure;

#[cfg(test)]
#[path = "case_test.rs"]
mod tests;
