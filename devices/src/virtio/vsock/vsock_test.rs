use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use vm_memory::{Bytes, GuestAddress};

use super::credit::ROOM;
use super::packet::{HOST_CID, Header, NO_RECEIVE, NO_SEND, Op, Ports, SIZE, STREAM};
use super::*;
use crate::virtio::testing::{BUFFERS, DriverRing, Guest};

const CID: u32 = 3;
/// Buffers that the guest has for packets, and their size.
const RECEIVE: u64 = 16;
const BUFFER: u32 = 0x1000;
const TRANSMIT_AT: u64 = BUFFERS + RECEIVE * BUFFER as u64;

/// A guest's driver, and the host around it.
struct Scene {
    directory: tempfile::TempDir,
    guest: Guest,
    receive: DriverRing,
    transmit: DriverRing,
}

impl Scene {
    fn new() -> Self {
        let scene = Self::without_buffers();
        let mut scene = scene;
        (0..RECEIVE).for_each(|number| scene.offer(number as u16));
        scene.guest.kick(0);
        scene
    }

    /// The guest has no room for packets yet.
    fn without_buffers() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vsock");
        let listener = UnixListener::bind(&path).unwrap();
        let guest = Guest::new(Arc::new(Vsock::new(CID, listener, path)));
        let ring = |index| DriverRing::new(&guest.ram, index, 16, false);
        let (receive, transmit, events) = (ring(0), ring(1), ring(2));
        guest.start(receive.features(), &[&receive, &transmit, &events]);
        Self { directory, guest, receive, transmit }
    }

    /// Chains are one descriptor each, so that a buffer goes by its descriptor.
    fn offer(&mut self, number: u16) {
        let id = self.receive.add(&[], &[(BUFFERS + u64::from(number) * u64::from(BUFFER), BUFFER)]);
        assert_eq!(id, number % 16);
    }

    fn send(&mut self, header: Header, data: &[u8]) {
        let header = Header { length: data.len() as u32, ..header };
        self.send_raw(header, data);
    }

    fn send_raw(&mut self, header: Header, data: &[u8]) {
        self.post(header, data);
        self.guest.wait_for_used(1, &mut self.transmit);
    }

    /// Sends without waiting for the device to take it.
    fn post(&mut self, header: Header, data: &[u8]) {
        let memory = self.guest.ram.guest_memory();
        memory.write_slice(&[&header.to_bytes(), data].concat(), GuestAddress(TRANSMIT_AT)).unwrap();
        self.transmit.add(&[(TRANSMIT_AT, (SIZE + data.len()) as u32)], &[]);
        self.guest.kick(1);
    }

    /// The next packet for the guest.
    fn next(&mut self) -> (Header, Vec<u8>) {
        let (id, written) = self.guest.wait_for_used(0, &mut self.receive);
        let mut bytes = vec![0; written as usize];
        let at = BUFFERS + u64::from(id) * u64::from(BUFFER);
        self.guest.ram.guest_memory().read_slice(&mut bytes, GuestAddress(at)).unwrap();
        self.offer(id);
        self.guest.kick(0);
        let (header, data) = bytes.split_at(SIZE);
        let header = Header::from_bytes(header.try_into().unwrap()).unwrap();
        assert_eq!((header.from_cid, header.to_cid), (HOST_CID, CID.into()));
        assert_eq!(header.length as usize, data.len());
        (header, data.to_vec())
    }

    /// The next packet for the guest, which holds nothing.
    fn expect(&mut self, op: Op, ports: Ports) -> Header {
        let (header, data) = self.next();
        assert_eq!((header.op, data.len()), (op, 0), "{header:?}");
        assert_eq!((header.from_port, header.to_port), (ports.host, ports.guest));
        header
    }

    fn client(&self, line: &str) -> UnixStream {
        let mut client = UnixStream::connect(self.directory.path().join("vsock")).unwrap();
        client.write_all(line.as_bytes()).unwrap();
        client
    }

    fn serve(&self, port: u32) -> UnixListener {
        UnixListener::bind(self.directory.path().join(format!("vsock_{port}"))).unwrap()
    }

    /// A client of the host that is connected to the guest's port.
    fn connected_client(&mut self, port: u32) -> (UnixStream, Ports) {
        let mut client = self.client(&format!("CONNECT {port}\n"));
        let (request, _) = self.next();
        assert_eq!((request.op, request.to_port, request.room), (Op::Request, port, ROOM));
        let ports = Ports { host: request.from_port, guest: port };
        self.send(from_guest(ports, Op::Response), &[]);
        assert_eq!(line(&mut client), format!("OK {}\n", ports.host));
        (client, ports)
    }

    /// A port of the guest that is connected to a server of the host.
    fn connected_server(&mut self, ports: Ports) -> UnixStream {
        let listener = self.serve(ports.host);
        self.send(from_guest(ports, Op::Request), &[]);
        self.expect(Op::Response, ports);
        listener.accept().unwrap().0
    }
}

fn from_guest(ports: Ports, op: Op) -> Header {
    Header {
        from_cid: CID.into(),
        to_cid: HOST_CID,
        from_port: ports.guest,
        to_port: ports.host,
        length: 0,
        kind: STREAM,
        op,
        flags: 0,
        room: 0x10000,
        forwarded: 0,
    }
}

fn line(client: &mut UnixStream) -> String {
    let (mut text, mut byte) = (String::new(), [0]);
    while !text.ends_with('\n') && client.read(&mut byte).unwrap() > 0 {
        text.push(byte[0].into());
    }
    text
}

const PORTS: Ports = Ports { host: 1234, guest: 5000 };
const OTHERS: Ports = Ports { host: 1235, guest: 5000 };

#[test]
fn clients_of_the_host_reach_ports_of_the_guest() {
    let mut scene = Scene::new();
    let (mut client, ports) = scene.connected_client(52);
    client.write_all(b"hello").unwrap();
    let (header, data) = scene.next();
    assert_eq!((header.op, data.as_slice()), (Op::Data, &b"hello"[..]));
    scene.send(from_guest(ports, Op::Data), b"good day");
    let mut read = [0; 8];
    client.read_exact(&mut read).unwrap();
    assert_eq!(&read, b"good day");
    // The client has done with writing, not with reading.
    client.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(scene.expect(Op::Shutdown, ports).flags, NO_SEND);
    scene.send(from_guest(ports, Op::Data), b"good bye");
    client.read_exact(&mut read).unwrap();
    assert_eq!(&read, b"good bye");
    scene.send(Header { flags: NO_SEND | NO_RECEIVE, ..from_guest(ports, Op::Shutdown) }, &[]);
    scene.expect(Op::Reset, ports);
    assert_eq!(client.read(&mut read).unwrap(), 0);
}

#[test]
fn the_guest_reaches_sockets_of_the_host_and_is_refused_where_nobody_listens() {
    let mut scene = Scene::new();
    scene.send(from_guest(PORTS, Op::Request), &[]);
    scene.expect(Op::Reset, PORTS);
    let mut server = scene.connected_server(PORTS);
    server.write_all(&[7; 10_000]).unwrap();
    let mut got = 0;
    while got < 10_000 {
        let (header, data) = scene.next();
        assert_eq!(header.op, Op::Data);
        assert!(data.iter().all(|byte| *byte == 7));
        got += data.len();
    }
    // Who leaves altogether is heard of once; what the guest still says is answered with a reset.
    drop(server);
    assert_eq!(scene.expect(Op::Shutdown, PORTS).flags, NO_SEND | NO_RECEIVE);
    scene.send(Header { flags: NO_SEND | NO_RECEIVE, ..from_guest(PORTS, Op::Shutdown) }, &[]);
    scene.expect(Op::Reset, PORTS);
}

#[test]
fn what_a_guest_sent_before_it_closed_arrives_however_slow_the_reader_is() {
    let mut scene = Scene::new();
    let mut server = scene.connected_server(PORTS);
    // More than the socket takes, so that some is kept.
    let (mut sent, mut known) = (0_u32, 0_u32);
    let portion: Vec<u8> = (0..0x8000_u32).map(|at| at as u8).collect();
    while sent - known < ROOM {
        scene.send(from_guest(PORTS, Op::Data), &portion);
        sent += portion.len() as u32;
        while sent - known >= ROOM {
            // It says that there is room, or there is none.
            scene.send(from_guest(PORTS, Op::CreditRequest), &[]);
            let update = scene.expect(Op::CreditUpdate, PORTS);
            if update.forwarded == known {
                break;
            }
            known = update.forwarded;
        }
    }
    scene.send(Header { flags: NO_SEND | NO_RECEIVE, ..from_guest(PORTS, Op::Shutdown) }, &[]);
    loop {
        let (header, _) = scene.next();
        if header.op == Op::Reset {
            break;
        }
    }
    let mut read = Vec::new();
    server.read_to_end(&mut read).unwrap();
    assert_eq!(read.len() as u32, sent);
    assert!(read.chunks(portion.len()).all(|chunk| chunk == portion));
}

#[test]
fn a_guest_that_sends_more_than_there_is_room_for_loses_the_connection() {
    let mut scene = Scene::new();
    let server = scene.connected_server(PORTS);
    scene.send(from_guest(PORTS, Op::Data), &vec![1; ROOM as usize]);
    scene.send(from_guest(PORTS, Op::Data), &vec![1; ROOM as usize]);
    scene.send(from_guest(PORTS, Op::Data), &vec![1; ROOM as usize]);
    while scene.next().0.op != Op::Reset {}
    drop(server);
}

#[test]
fn a_connection_without_room_in_the_guest_holds_no_other_up() {
    let mut scene = Scene::new();
    let listener = scene.serve(PORTS.host);
    scene.send(Header { room: 100, ..from_guest(PORTS, Op::Request) }, &[]);
    scene.expect(Op::Response, PORTS);
    let mut slow = listener.accept().unwrap().0;
    slow.write_all(&[1; 1000]).unwrap();
    let (_, data) = scene.next();
    assert_eq!(data.len(), 100);
    scene.expect(Op::CreditRequest, PORTS);
    let mut fast = scene.connected_server(OTHERS);
    fast.write_all(&[2; 1000]).unwrap();
    let (header, data) = scene.next();
    assert_eq!((header.from_port, data.len()), (OTHERS.host, 1000));
    // It says that it still has none, which is not asked again; then it has.
    scene.send(Header { room: 100, ..from_guest(PORTS, Op::CreditUpdate) }, &[]);
    scene.send(Header { room: 100, forwarded: 100, ..from_guest(PORTS, Op::CreditUpdate) }, &[]);
    let (header, data) = scene.next();
    assert_eq!((header.op, header.from_port, data.len()), (Op::Data, PORTS.host, 100));
}

#[test]
fn packets_of_no_connection_are_answered_with_a_reset_or_not_at_all() {
    let mut scene = Scene::new();
    for op in [Op::Response, Op::Data, Op::Shutdown, Op::Unknown(99)] {
        scene.send(from_guest(PORTS, op), &[]);
        scene.expect(Op::Reset, PORTS);
    }
    // In another's name; late; and of a kind that there is not.
    scene.send(Header { from_cid: 4, ..from_guest(PORTS, Op::Request) }, &[]);
    scene.send(from_guest(PORTS, Op::Reset), &[]);
    scene.send(from_guest(PORTS, Op::CreditUpdate), &[]);
    scene.send(Header { kind: 2, ..from_guest(PORTS, Op::Request) }, &[]);
    assert_eq!(scene.expect(Op::Reset, PORTS).kind, 2);
}

#[test]
fn a_guest_that_takes_no_answers_is_not_heard_until_it_does() {
    let mut scene = Scene::without_buffers();
    let mut unanswered = 0;
    // The device takes what it can answer, and then nothing more.
    while unanswered < 256 {
        scene.send(from_guest(PORTS, Op::Data), &[]);
        unanswered += 1;
    }
    scene.post(from_guest(PORTS, Op::Data), &[]);
    assert_eq!(scene.transmit.used(), None);
    (0..RECEIVE).for_each(|number| scene.offer(number as u16));
    scene.guest.kick(0);
    for _ in 0..=unanswered {
        scene.expect(Op::Reset, PORTS);
    }
}

#[test]
fn a_packet_that_is_shorter_than_it_says_stops_the_device() {
    let mut scene = Scene::new();
    scene.post(Header { length: 1000, ..from_guest(PORTS, Op::Data) }, &[1; 999]);
    scene.guest.wait_for_vector(0);
    assert_eq!(scene.guest.status() & 0x40, 0x40, "DEVICE_NEEDS_RESET");
}

#[test]
fn clients_that_ask_for_nothing_sensible_are_sent_away_and_a_reset_ends_all() {
    let mut scene = Scene::new();
    let mut confused = scene.client("GET / HTTP/1.1\n");
    assert_eq!(line(&mut confused), "");
    let mut refused = scene.client("CONNECT 1\n");
    let (request, _) = scene.next();
    scene.send(from_guest(Ports { host: request.from_port, guest: 1 }, Op::Reset), &[]);
    assert_eq!(line(&mut refused), "");
    let (mut client, before) = scene.connected_client(52);
    let given = [request.from_port, before.host];
    scene.guest.write(0x14, &[0]);
    assert_eq!(line(&mut client), "");
    // Clients that come meanwhile are served when there is a driver again.
    let mut early = scene.client("CONNECT 53\n");
    let ring = |index| DriverRing::new(&scene.guest.ram, index, 16, false);
    let (receive, transmit, events) = (ring(0), ring(1), ring(2));
    scene.guest.start(receive.features(), &[&receive, &transmit, &events]);
    (scene.receive, scene.transmit) = (receive, transmit);
    (0..RECEIVE).for_each(|number| scene.offer(number as u16));
    scene.guest.kick(0);
    let (request, _) = scene.next();
    // The guest may still reset what it had with these ports.
    assert!(!given.contains(&request.from_port), "{} again", request.from_port);
    let ports = Ports { host: request.from_port, guest: 53 };
    scene.send(from_guest(ports, Op::Response), &[]);
    assert_eq!(line(&mut early), format!("OK {}\n", ports.host));
}
