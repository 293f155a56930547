//! `exec` and `shell`: one command in a fresh host, with this process's standard streams.

use std::fs::File;
use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::Error;
use crate::cli::{ExecOptions, HostOptions, ShellOptions};
use crate::files::During;
use crate::host::{Deadline, Event, Host, HostError, Session};
use crate::product::Product;
use crate::setup;
use crate::terminal::{self, Raw};
use crate::tool::announce;
use crate::wire::ExecRequest;

/// Exit status after Ctrl-], as of a shell's interrupted command.
const INTERRUPTED: i32 = 130;

/// `cargo lab exec`.
pub(crate) fn exec(options: &ExecOptions) -> Result<ExitCode, Error> {
    let host = boot(&options.host)?;
    let limit = (options.timeout > 0).then(|| Duration::from_secs(options.timeout));
    let status = attached(&host, &options.command, limit, |_| {});
    if let Some(out) = &options.out {
        // What a command wrote before it failed is what one wants to see then.
        match (host.get_directory("/out", out), &status) {
            (Err(e), Ok(_)) => return Err(e.into()),
            (Err(e), Err(_)) => announce(&format!("nothing came back from /out: {e}")),
            (Ok(()), _) => {}
        }
    }
    Ok(exit_code(status?))
}

/// `cargo lab shell`.
pub(crate) fn shell(options: &ShellOptions) -> Result<ExitCode, Error> {
    let host = boot(&options.host)?;
    if terminal::size().is_some() {
        announce("vmm, busybox and /lab are here; exit, or Ctrl-], ends the host");
    }
    let status = attached(&host, &["sh".to_owned(), "-l".to_owned()], None, |_| {})?;
    if let Some(out) = &options.out {
        host.get_directory("/out", out)?;
    }
    Ok(exit_code(status))
}

/// Boots the host of `options`, with `vmm` built and everything set up before.
pub(crate) fn boot(options: &HostOptions) -> Result<Host, Error> {
    let mut artefacts = setup::ensure()?;
    artefacts.ensure_kernel(options.host_kernel)?;
    let product = Product::build()?;
    let host = Host::boot(&options.spec(), &artefacts, Some(&product.vmm()))?;
    for problem in host.problems() {
        announce(&format!("in the host: {problem}"));
    }
    if let Some(path) = &options.console {
        let file = File::create(path).during("create", path)?;
        host.console().copy_to(file).during("write", path)?;
    }
    Ok(host)
}

/// Runs a command on this process's standard streams, on a terminal if these are one, and gives its exit
/// status. `seen` gets a copy of its output.
pub(crate) fn attached(
    host: &Host,
    argv: &[String],
    limit: Option<Duration>,
    mut seen: impl FnMut(&[u8]),
) -> Result<i32, Error> {
    let terminal = terminal::size();
    let env = std::env::var("TERM").ok().filter(|_| terminal.is_some());
    let env = env.map(|term| ("TERM".to_owned(), term)).into_iter().collect();
    let session = host.exec(ExecRequest { argv: argv.to_vec(), env, terminal })?;
    let raw = terminal.and_then(|_| Raw::enter().ok()).map(Arc::new);
    pump_stdin(&session, raw.clone());
    let deadline = limit.map_or(Deadline::never(), Deadline::after);
    let result = loop {
        match session.next(deadline) {
            Ok(Event::Stdout(bytes)) => {
                seen(&bytes);
                pass_on(&mut io::stdout().lock(), &bytes);
            }
            Ok(Event::Stderr(bytes)) => pass_on(&mut io::stderr().lock(), &bytes),
            Ok(Event::Exit(status)) => break Ok(status),
            Err(HostError::Deadline { after }) => {
                session.kill();
                break Err(Error::TimedOut { seconds: after.as_secs(), dmesg: host.dmesg() });
            }
            Err(e) => break Err(e.into()),
        }
    };
    if let Some(raw) = raw {
        raw.restore();
    }
    result
}

/// Copies standard input to the command, on a thread that ends with the process: a read cannot be called off.
fn pump_stdin(session: &Session, raw: Option<Arc<Raw>>) {
    let stdin = session.stdin();
    thread::spawn(move || {
        let mut buffer = vec![0; 32 << 10];
        let mut size = terminal::size();
        while let Ok(n @ 1..) = io::stdin().lock().read(&mut buffer) {
            let bytes = buffer.get(..n).unwrap_or_default();
            if let Some(raw) = &raw {
                let now = terminal::size();
                if let Some(changed) = now.filter(|now| Some(*now) != size) {
                    stdin.resize(changed);
                    size = now;
                }
                if bytes.contains(&terminal::ESCAPE) {
                    // It must work on a host that no longer answers; the host ends with this process.
                    raw.restore();
                    eprintln!();
                    announce("ended by Ctrl-]");
                    std::process::exit(INTERRUPTED);
                }
            }
            stdin.write_all(bytes);
        }
        stdin.end();
    });
}

/// Who reads our output may be gone; the command's end is what counts then.
fn pass_on(to: &mut impl Write, bytes: &[u8]) {
    let _ = to.write_all(bytes).and_then(|()| to.flush());
}

fn exit_code(status: i32) -> ExitCode {
    ExitCode::from(u8::try_from(status).unwrap_or(u8::MAX))
}
