use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsRawFd, OwnedFd};

use memory::pin::{PinError, Step};
use vmm::machine::control::PluggedPlace;
use vmm::machine::phases::Phase;
use vmm::{Class, Problem};

use super::target::open;
use super::*;
use crate::config::Config;

fn spec() -> MachineSpec {
    crate::run::spec(&Config::default(), &mut Problems::default())
}

/// Without what varies.
fn shown(line: &str) -> String {
    let mut line: Value = serde_json::from_str(line).unwrap();
    assert!(line["time"].as_f64().unwrap() > 1.7e9);
    line.as_object_mut().unwrap().remove("time");
    line.to_string()
}

#[test]
fn what_happens_is_a_line_each() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("events");
    let log = EventLog::open(&Events { path: Some(path.clone()), fd: None }).unwrap();
    let progress = |step, done| Progress { step, done, total: 9, retries: 2, elapsed: Duration::ZERO };
    let phases = [
        Phase { name: "create machine", took: Duration::from_micros(1500), bytes: None },
        Phase { name: "pin and map memory", took: Duration::from_millis(2), bytes: Some(9) },
    ];
    for event in [
        Event::Pinning(&progress(Step::Populating, 1)),
        Event::Pinning(&progress(Step::Populating, 2)),
        Event::Pinning(&progress(Step::Pinning, 3)),
        Event::Starting(&phases),
        Event::Rebooting,
        Event::ConsoleHelp,
        Event::AskedToPowerOff { signal: "SIGTERM", grace: Duration::from_secs(30) },
        Event::Unplugged { hosts: &["0000:01:00.0".parse().unwrap()] },
        Event::VirtioPlugged(&PluggedPlace { id: "data".to_owned(), guest: "0000:02:00.0".parse().unwrap() }),
        Event::VirtioUnplugged { id: "data" },
    ] {
        log.note(&spec(), &event);
    }
    log.ended(&Ok(Outcome::PoweredOff), 0);
    drop(log);
    let written = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<String> = written.lines().map(shown).collect();
    assert_eq!(
        lines,
        [
            r#"{"event":"pinning","step":"populating","done_bytes":1,"total_bytes":9,"retries":2}"#,
            r#"{"event":"pinning","step":"pinning","done_bytes":3,"total_bytes":9,"retries":2}"#,
            r#"{"event":"phase","name":"create machine","ms":1.5,"bytes":null}"#,
            r#"{"event":"phase","name":"pin and map memory","ms":2.0,"bytes":9}"#,
            r#"{"event":"running","cpus":1,"memory_bytes":536870912,"devices":[]}"#,
            r#"{"event":"rebooting"}"#,
            r#"{"event":"asked-to-power-off","signal":"SIGTERM","grace_ms":30000}"#,
            r#"{"event":"unplugged","device":"0000:01:00.0"}"#,
            r#"{"event":"plugged","device":"data","guest":"0000:02:00.0"}"#,
            r#"{"event":"unplugged","device":"data"}"#,
            r#"{"event":"ended","code":0,"cause":"powered-off"}"#,
        ]
    );

    // More is added at the end.
    let before = lines.len();
    let log = EventLog::open(&Events { path: Some(path.clone()), fd: None }).unwrap();
    log.note(&spec(), &Event::PinFailed(&PinError::NoPinner { reason: "none".to_owned() }));
    let failed = Problem::of(Class::Memory)(PinError::NoPinner { reason: "none".to_owned() });
    log.ended(&Err(failed), 4);
    drop(log);
    let written = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<Value> =
        written.lines().skip(before).map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        (&lines[0]["event"], &lines[0]["failed"]["kind"]),
        (&"pin-failed".into(), &"no_pinner".into())
    );
    let ended = &lines[1];
    assert_eq!((&ended["cause"], &ended["code"]), (&"failed".into(), &4.into()));
    assert_eq!(ended["problems"][0]["class"], "memory");
    assert!(ended["problems"][0]["help"].is_string());
}

#[test]
fn a_reader_who_does_not_read_holds_nothing_up_and_is_told_what_it_missed() {
    let (reader, writer) = std::io::pipe().unwrap();
    let log = EventLog::new(OwnedFd::from(writer).into()).unwrap();
    let most = WAITING + 4096;
    for _ in 0..most {
        log.note(&spec(), &Event::Rebooting);
    }
    let mut reader = BufReader::new(reader);
    // Room comes only when a line is read.
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let mut rest = String::new();
    let reading = std::thread::spawn(move || reader.read_to_string(&mut rest).map(|_| rest));
    while log.lost.load(Ordering::Relaxed) > 0 {
        log.note(&spec(), &Event::Rebooting);
        std::thread::yield_now();
    }
    drop(log);
    let rest = reading.join().unwrap().unwrap();
    let lines = 1 + rest.lines().count() as u64;
    let lost: u64 =
        rest.lines().filter_map(|line| serde_json::from_str::<Value>(line).unwrap()["lost"].as_u64()).sum();
    assert!(lost > 0 && lines + lost >= most as u64, "{lines} lines, {lost} lost");
}

#[test]
fn a_descriptor_must_be_open_for_writing() {
    let (reader, writer) = std::io::pipe().unwrap();
    let at = |fd: i32| Events { path: None, fd: Some(fd as u32) };
    let log = EventLog::open(&at(writer.as_raw_fd())).unwrap();
    drop(writer);
    log.ended(&Ok(Outcome::Stopped("stopped")), 0);
    drop(log);
    let mut said = String::new();
    reader.try_clone().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains(r#""how":"stopped""#), "{said}");
    for (events, expected) in [
        (at(reader.as_raw_fd()), format!("cannot write events to file descriptor {}", reader.as_raw_fd())),
        (at(900), "cannot write events to file descriptor 900".to_owned()),
        (Events::default(), "--events does not say where to".to_owned()),
        (Events { path: Some("a".into()), fd: Some(1) }, "--events a,fd=1 are two places".to_owned()),
        (
            Events { path: Some("/nonexistent/a".into()), fd: None },
            "cannot write events to /nonexistent/a".to_owned(),
        ),
    ] {
        assert_eq!(open(&events).unwrap_err().to_string(), expected);
    }
}

#[test]
fn a_pipe_that_nobody_reads_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    let error = open(&Events { path: Some(path), fd: None }).unwrap_err();
    assert!(matches!(error, EventsError::Path { source, .. } if source.raw_os_error() == Some(libc::ENXIO)));
}
