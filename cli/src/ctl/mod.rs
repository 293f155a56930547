//! `vmm ctl`: asks the machine behind a socket, and shows what it answers: tables for people, `--json` for programs.

pub(crate) mod args;
pub(crate) mod client;
mod memory;
pub(crate) mod show;
mod wait;

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use miette::Diagnostic;
use serde_json::{Value, json};
use thiserror::Error;
use vmm::{Class, Problem, Problems};

use crate::grammar::types;
use crate::report;
use args::{Ask, CtlArgs, MemoryArgs, Socket};
use client::{Answer, Client, ClientError};

/// Why a request cannot be made.
#[derive(Debug, Error, Diagnostic)]
enum CtlError {
    #[error("--timeout `{0}` is not a duration")]
    #[diagnostic(help("give a whole number with us, ms, s or m, as in --timeout 30s"))]
    Timeout(String),
    #[error("`{0}` is not a size")]
    #[diagnostic(help("give bytes, or a number with K, M, G or T, as in 8G"))]
    Size(String),
    #[error("{} cannot be told to the machine", .0.display())]
    #[diagnostic(help("give a path whose name is UTF-8"))]
    Name(std::path::PathBuf),
    #[error("cannot read {}", path.display())]
    #[diagnostic(help("give a file that holds JSON, or - for standard input"))]
    Body {
        path: std::path::PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// Asks; returns the exit code.
pub(crate) fn ctl(args: &CtlArgs) -> Result<u8, Problems> {
    let client = client(&args.machine)?;
    let CtlArgs { machine: args, ask } = args;
    match ask {
        Ask::Ping => show(args, &client.get("/api/v1/vmm.ping"), show::ping),
        Ask::Info => show(args, &client.get("/api/v1/vm.info"), show::info),
        Ask::State => show(args, &client.get("/vmm/v1/state"), show::state),
        Ask::Preflight => show(args, &client.get("/vmm/v1/preflight"), show::preflight),
        Ask::Counters => show(args, &client.get("/api/v1/vm.counters"), show::counters),
        Ask::Phases => show(args, &client.get("/vmm/v1/boot-phases"), show::phases),
        Ask::PinReport => show(args, &client.get("/vmm/v1/pin-report"), show::pin_report),
        Ask::Metrics => show(args, &client.get("/vmm/v1/metrics"), show::text),
        Ask::Create { file } => put(args, &client, "vm.create", &read(file)?),
        Ask::Boot => {
            let answer = wait::with_progress(&client, || client.put("/api/v1/vm.boot", b""));
            show(args, &answer, show::text)
        }
        Ask::Shutdown => put(args, &client, "vm.shutdown", b""),
        Ask::Delete => put(args, &client, "vm.delete", b""),
        Ask::Reboot => put(args, &client, "vm.reboot", b""),
        Ask::Pause => put(args, &client, "vm.pause", b""),
        Ask::Resume => put(args, &client, "vm.resume", b""),
        Ask::Nmi => put(args, &client, "vm.nmi", b""),
        Ask::PowerButton { wait } => {
            let code = put(args, &client, "vm.power-button", b"")?;
            match wait {
                Some(limit) => wait::until_gone(&client, duration(limit)?).map(|()| code).map_err(refused),
                None => Ok(code),
            }
        }
        Ask::AddDevice { device, id } => add(
            args,
            &client,
            "vm.add-device",
            json!({ "path": format!("/sys/bus/pci/devices/{device}"), "id": id }),
        ),
        Ask::AddDisk { file, ro, id } => {
            add(args, &client, "vm.add-disk", json!({ "path": file, "readonly": ro, "id": id }))
        }
        Ask::AddNet { tap, mac, id } => {
            add(args, &client, "vm.add-net", json!({ "tap": tap, "mac": mac, "id": id }))
        }
        Ask::AddFs { daemon, tag, id } => {
            add(args, &client, "vm.add-fs", json!({ "socket": daemon, "tag": tag, "id": id }))
        }
        Ask::AddVsock { path, cid, id } => {
            add(args, &client, "vm.add-vsock", json!({ "socket": path, "cid": cid, "id": id }))
        }
        Ask::RemoveDevice { id } => {
            put(args, &client, "vm.remove-device", json!({ "id": id }).to_string().as_bytes())
        }
        Ask::Resize { cpus, memory, balloon } => {
            let memory = memory.as_deref().map(bytes).transpose()?;
            let balloon = balloon.as_deref().map(bytes).transpose()?;
            let body = json!({ "desired_vcpus": cpus, "desired_ram": memory, "desired_balloon": balloon });
            put(args, &client, "vm.resize", body.to_string().as_bytes())
        }
        Ask::ResizeDisk { id, size } => {
            let body = json!({ "id": id, "desired_size": bytes(size)? });
            put(args, &client, "vm.resize-disk", body.to_string().as_bytes())
        }
        Ask::Coredump { file } => {
            let body = json!({ "destination_url": file_url(file)? });
            put(args, &client, "vm.coredump", body.to_string().as_bytes())
        }
        Ask::ShutdownVmm => put(args, &client, "vmm.shutdown", b""),
        Ask::Call { method, path, file } => {
            let body = file.as_deref().map(read).transpose()?.unwrap_or_default();
            show(args, &client.ask(method, path, &body), show::text)
        }
    }
}

/// `vmm memory`: draws where a guest's memory lies; returns the exit code.
pub(crate) fn memory(args: &MemoryArgs) -> Result<u8, Problems> {
    let client = client(&args.machine)?;
    show(&args.machine, &client.get("/vmm/v1/memory"), memory::bars)
}

fn client(args: &Socket) -> Result<Client, Problems> {
    let timeout = args.timeout.as_deref().map(duration).transpose()?;
    Ok(Client::new(&args.socket, timeout))
}

fn put(args: &Socket, client: &Client, call: &str, body: &[u8]) -> Result<u8, Problems> {
    show(args, &client.put(&format!("/api/v1/{call}"), body), show::text)
}

/// Adds a device, which may have all guest memory pinned.
fn add(args: &Socket, client: &Client, call: &str, device: Value) -> Result<u8, Problems> {
    let body = device.to_string();
    let add = || client.put(&format!("/api/v1/{call}"), body.as_bytes());
    show(args, &wait::with_progress(client, add), show::added)
}

/// Prints an answer, for people by `table`.
fn show(
    args: &Socket,
    answer: &Result<Answer, ClientError>,
    table: fn(&Answer) -> String,
) -> Result<u8, Problems> {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return Err(refused(error.clone())),
    };
    if args.json {
        let json: Option<Value> = serde_json::from_slice(&answer.body).ok();
        match json {
            Some(json) => report::print(&format!("{json:#}\n")),
            None => report::print(&answer.text()),
        }
    } else {
        report::print(&table(answer));
    }
    Ok(0)
}

/// 1: the machine did not do it; 2: it makes no sense; 3: there is no machine to ask.
fn refused(error: ClientError) -> Problems {
    let class = match &error {
        ClientError::Refused { status: 400..=499 | 501, .. } => Class::Usage,
        ClientError::Refused { .. } | ClientError::StillThere(_) => Class::Guest,
        ClientError::Unreachable { .. } | ClientError::Lost { .. } | ClientError::NotHttp { .. } => {
            Class::Host
        }
    };
    Problem::of(class)(error)
}

fn duration(text: &str) -> Result<Duration, Problems> {
    text.parse()
        .map(|types::Duration(duration)| duration)
        .map_err(|_| Problem::of(Class::Usage)(CtlError::Timeout(text.to_owned())))
}

fn bytes(size: &str) -> Result<u64, Problems> {
    let bad = |_| Problem::of(Class::Usage)(CtlError::Size(size.to_owned()));
    size.parse().map(|types::Size(bytes)| bytes).map_err(bad)
}

/// Names a file to a machine, which may have another working directory.
fn file_url(path: &Path) -> Result<String, Problems> {
    let absolute = std::path::absolute(path).ok();
    let text = absolute.as_deref().and_then(Path::to_str);
    text.map(|path| format!("file://{path}"))
        .ok_or_else(|| Problem::of(Class::Usage)(CtlError::Name(path.to_owned())))
}

fn read(path: &Path) -> Result<Vec<u8>, Problems> {
    let mut body = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().read_to_end(&mut body).map(drop)
    } else {
        std::fs::read(path).map(|bytes| body = bytes)
    };
    let failed = |source| Problem::of(Class::Usage)(CtlError::Body { path: path.to_owned(), source });
    read.map(|()| body).map_err(failed)
}
