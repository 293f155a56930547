use super::*;

/// A monitor whose QEMU says these lines, whatever it is asked; and what it was asked.
fn monitor(lines: &str) -> (Monitor, UnixStream) {
    let (here, mut there) = UnixStream::pair().unwrap();
    there.write_all(lines.as_bytes()).unwrap();
    (Monitor::new(here), there)
}

#[test]
fn greeting_and_events_are_passed_over() {
    let (monitor, there) = monitor(
        "{\"QMP\": {\"version\": {}}}\n{\"return\": {}}\n{\"event\": \"RESUME\"}\n{\"return\": \"OK id: nic\\r\\n\"}\n\
         {\"return\": \"\"}\n",
    );
    assert_eq!(monitor.command("inject nic").unwrap(), "OK id: nic\r\n");
    assert_eq!(monitor.command("again").unwrap(), "");
    drop(monitor);
    let asked: Vec<Value> =
        BufReader::new(there).lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    assert_eq!(asked.len(), 3);
    assert_eq!(asked[0]["execute"], "qmp_capabilities");
    assert_eq!(asked[1]["arguments"]["command-line"], "inject nic");
}

#[test]
fn errors_and_the_end_are_errors() {
    let (monitor, _there) = monitor("{\"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}}\n");
    let error = monitor.command("x").unwrap_err().to_string();
    assert!(error.contains("qmp_capabilities") && error.contains("GenericError"), "{error}");
    let (monitor, there) = self::monitor("");
    there.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(monitor.command("x").is_err());
}
