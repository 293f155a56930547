use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Condvar, Mutex};

use super::*;

/// A server whose handler echoes bodies; `/wait` waits until the gate is opened, `/panic` panics.
struct Bench {
    server: Option<Server>,
    path: PathBuf,
    gate: Arc<(Mutex<bool>, Condvar)>,
    _directory: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("api.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let gate = Arc::new((Mutex::new(false), Condvar::new()));
        let inside = gate.clone();
        let handler = Arc::new(move |request: &Request| match request.path.as_str() {
            "/wait" => {
                let open = inside.0.lock().unwrap();
                drop(inside.1.wait_while(open, |open| !*open).unwrap());
                Response::done()
            }
            "/panic" => panic!("as asked"),
            "/large" => Response::text("text/plain", "x".repeat(4 << 20)),
            _ => Response::text("text/plain", String::from_utf8_lossy(&request.body).into_owned()),
        });
        Self { server: Some(Server::start(listener, handler).unwrap()), path, gate, _directory: directory }
    }

    fn connect(&self) -> UnixStream {
        UnixStream::connect(&self.path).unwrap()
    }

    fn open(&self) {
        *self.gate.0.lock().unwrap() = true;
        self.gate.1.notify_all();
    }
}

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").into_bytes()
}

fn put(body: &str) -> Vec<u8> {
    format!("PUT /echo HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// The status and the body of the next response; status 0 when the connection ends.
fn response(stream: &mut UnixStream) -> (u16, String) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).unwrap_or(0) == 0 {
            return (0, String::new());
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let status = head["HTTP/1.1 ".len()..].split(' ').next().unwrap().parse().unwrap();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "))
        .map_or(0, |text| text.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    (status, String::from_utf8(body).unwrap())
}

fn ask(bench: &Bench, request: &[u8]) -> (u16, String) {
    let mut stream = bench.connect();
    stream.write_all(request).unwrap();
    response(&mut stream)
}

#[test]
fn requests_on_one_connection_are_answered_in_turn() {
    let bench = Bench::new();
    let mut stream = bench.connect();
    stream.write_all(&[put("one"), put("two"), put("three")].concat()).unwrap();
    for body in ["one", "two", "three"] {
        assert_eq!(response(&mut stream), (200, body.to_owned()));
    }
}

#[test]
fn a_slow_writer_holds_nobody_up() {
    let bench = Bench::new();
    let request = put("slowly");
    let mut slow = bench.connect();
    for byte in &request[..request.len() - 1] {
        slow.write_all(&[*byte]).unwrap();
        assert_eq!(ask(&bench, &put("fast")), (200, "fast".to_owned()));
    }
    slow.write_all(&request[request.len() - 1..]).unwrap();
    assert_eq!(response(&mut slow), (200, "slowly".to_owned()));
}

#[test]
fn a_reader_that_does_not_read_holds_nobody_up() {
    let bench = Bench::new();
    let mut deaf = bench.connect();
    deaf.write_all(&[get("/large"), get("/large")].concat()).unwrap();
    for _ in 0..20 {
        assert_eq!(ask(&bench, &put("x")), (200, "x".to_owned()));
    }
    // What it is owed it gets when it does read.
    for _ in 0..2 {
        assert_eq!(response(&mut deaf).1.len(), 4 << 20);
    }
}

#[test]
fn a_long_request_holds_nobody_up_until_there_are_too_many() {
    let bench = Bench::new();
    let mut waiting: Vec<UnixStream> = (0..MAX_REQUESTS)
        .map(|_| {
            let mut stream = bench.connect();
            stream.write_all(&get("/wait")).unwrap();
            stream
        })
        .collect();
    // Requests are taken in the order of their connections, so from some point on all of these are under way.
    let mut last = bench.connect();
    let refused = loop {
        last.write_all(&put("x")).unwrap();
        match response(&mut last) {
            (200, _) => thread::yield_now(),
            refused => break refused,
        }
    };
    assert_eq!(refused.0, 429);
    bench.open();
    for stream in &mut waiting {
        assert_eq!(response(stream).0, 204);
    }
    assert_eq!(ask(&bench, &put("x")).0, 200);
}

#[test]
fn a_thousand_idle_connections_make_room() {
    let bench = Bench::new();
    // Beyond what is taken and what waits, connecting blocks until there is room.
    let idle: Vec<_> = (0..1000)
        .map(|_| {
            let path = bench.path.clone();
            thread::spawn(move || UnixStream::connect(path))
        })
        .collect();
    assert_eq!(ask(&bench, &put("still there")), (200, "still there".to_owned()));
    drop(bench);
    idle.into_iter().for_each(|client| drop(client.join()));
}

#[test]
fn half_closed_and_vanished_clients_are_no_harm() {
    let bench = Bench::new();
    // Nothing more comes from this one, but it listens.
    let mut half = bench.connect();
    half.write_all(&put("half")).unwrap();
    half.shutdown(Shutdown::Write).unwrap();
    assert_eq!(response(&mut half), (200, "half".to_owned()));
    assert_eq!(response(&mut half).0, 0);
    // These are gone before the answer.
    for request in [get("/wait"), get("/large"), b"PUT / HTTP/1.1\r\nContent-Le".to_vec()] {
        bench.connect().write_all(&request).unwrap();
    }
    bench.open();
    assert_eq!(ask(&bench, &put("x")).0, 200);
}

#[test]
fn garbage_is_answered_and_the_connection_closed() {
    let bench = Bench::new();
    for (request, status) in [
        (b"\x00\x01\x02\r\n\r\n".to_vec(), 400),
        (b"PUT / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n".to_vec(), 413),
        (b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_vec(), 411),
    ] {
        let mut stream = bench.connect();
        stream.write_all(&request).unwrap();
        assert_eq!(response(&mut stream).0, status);
        assert_eq!(response(&mut stream).0, 0, "the connection is still open");
    }
}

#[test]
fn a_client_that_expects_to_be_told_is() {
    let bench = Bench::new();
    let mut stream = bench.connect();
    stream.write_all(b"PUT /echo HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n").unwrap();
    assert_eq!(response(&mut stream).0, 100);
    stream.write_all(b"ok").unwrap();
    assert_eq!(response(&mut stream), (200, "ok".to_owned()));
}

#[test]
fn stopping_sends_what_is_being_answered() {
    let mut bench = Bench::new();
    let mut stream = bench.connect();
    stream.write_all(&[get("/wait"), put("never")].concat()).unwrap();
    // Once this one is answered the other is under way: connections are served in their order.
    assert_eq!(ask(&bench, &put("x")).0, 200);
    let server = bench.server.take().unwrap();
    let shared = server.shared.clone();
    let stopping = thread::spawn(move || drop(server));
    while !shared.stopping.load(Ordering::SeqCst) {
        thread::yield_now();
    }
    bench.open();
    assert_eq!(response(&mut stream).0, 204);
    stopping.join().unwrap();
    assert_eq!(response(&mut stream).0, 0);
}

#[test]
fn a_handler_that_fails_is_an_error_500() {
    let bench = Bench::new();
    assert_eq!(ask(&bench, &get("/panic")).0, 500);
    assert_eq!(ask(&bench, &put("x")).0, 200);
}
