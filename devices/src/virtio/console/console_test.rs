use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use vm_memory::{Bytes, GuestAddress};

use super::end::KEPT;
use super::*;
use crate::virtio::testing::{BUFFERS, DriverRing, Guest};

/// Where each queue has its buffers.
const STRIDE: u64 = 0x2_0000;
const TELL: u16 = 2;
const HEAR: u16 = 3;

/// A guest's driver, with rings for all queues.
struct Scene {
    guest: Guest,
    rings: Vec<DriverRing>,
}

impl Scene {
    fn new(ports: Vec<PortOptions>, features: u64) -> Self {
        let queues = 2 * ports.len() as u16 + 2;
        let guest = Guest::new(Arc::new(Console::new(ports).unwrap()));
        let rings: Vec<_> = (0..queues).map(|index| DriverRing::new(&guest.ram, index, 16, false)).collect();
        guest.start(rings[0].features() | features, &rings.iter().collect::<Vec<_>>());
        Self { guest, rings }
    }

    fn at(queue: u16) -> u64 {
        BUFFERS + u64::from(queue) * STRIDE
    }

    fn send(&mut self, queue: u16, bytes: &[u8]) {
        self.post(queue, bytes);
        self.taken(queue);
    }

    /// Sends without waiting for the device to take it.
    fn post(&mut self, queue: u16, bytes: &[u8]) {
        self.guest.ram.guest_memory().write_slice(bytes, GuestAddress(Self::at(queue))).unwrap();
        self.rings[usize::from(queue)].add(&[(Self::at(queue), bytes.len() as u32)], &[]);
        self.guest.kick(queue);
    }

    fn taken(&mut self, queue: u16) {
        self.guest.wait_for_used(queue, &mut self.rings[usize::from(queue)]);
    }

    fn say(&mut self, port: u32, event: u16, value: u16) {
        let message = [&port.to_le_bytes()[..], &event.to_le_bytes(), &value.to_le_bytes()].concat();
        self.send(HEAR, &message);
    }

    /// What comes from the device into a buffer of `room` bytes.
    fn receive(&mut self, queue: u16, room: u32) -> Vec<u8> {
        let ring = &mut self.rings[usize::from(queue)];
        ring.add(&[], &[(Self::at(queue), room)]);
        self.guest.kick(queue);
        let (_, written) = self.guest.wait_for_used(queue, ring);
        let mut bytes = vec![0; written as usize];
        self.guest.ram.guest_memory().read_slice(&mut bytes, GuestAddress(Self::at(queue))).unwrap();
        bytes
    }

    fn told(&mut self) -> (u32, u16, u16, Vec<u8>) {
        let message = self.receive(TELL, 64);
        let half = |at: usize| u16::from_le_bytes([message[at], message[at + 1]]);
        (u32::from(half(0)) | u32::from(half(2)) << 16, half(4), half(6), message[8..].to_vec())
    }
}

fn port(name: Option<&str>, backend: Backend) -> PortOptions {
    PortOptions { name: name.map(str::to_owned), backend, kept: Box::new(()) }
}

fn listen() -> (tempfile::TempDir, UnixListener, std::path::PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("port");
    (directory, UnixListener::bind(&path).unwrap(), path)
}

fn connect(path: &std::path::Path) -> UnixStream {
    let client = UnixStream::connect(path).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    client
}

fn read(client: &mut UnixStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    client.read_exact(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_driver_that_knows_one_port_writes_to_a_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut scene = Scene::new(vec![port(None, Backend::File(file.reopen().unwrap()))], 0);
    assert_eq!(u32::from_le_bytes(scene.guest.read(0x2004)), 1, "ports in the configuration");
    scene.send(1, b"hello, ");
    scene.send(1, b"host\n");
    let mut text = String::new();
    File::open(file.path()).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello, host\n");
}

#[test]
fn ports_are_told_of_and_clients_come_and_go() {
    let (_directory, listener, path) = listen();
    let file = tempfile::tempfile().unwrap();
    let ports = vec![port(None, Backend::File(file)), port(Some("agent.0"), Backend::Socket(listener))];
    let mut scene = Scene::new(ports, MULTIPORT);
    scene.say(0, 0, 1);
    assert_eq!(scene.told(), (0, 1, 1, vec![]));
    assert_eq!(scene.told(), (1, 1, 1, vec![]));
    scene.say(0, 3, 1);
    assert_eq!(scene.told(), (0, 4, 1, vec![]), "a console");
    assert_eq!(scene.told(), (0, 6, 1, vec![]), "it is open");
    scene.say(1, 3, 1);
    assert_eq!(scene.told(), (1, 7, 1, b"agent.0".to_vec()));
    assert_eq!(scene.told(), (1, 6, 0, vec![]), "nobody is there");
    // Nobody gets this.
    scene.send(5, b"lost");

    for round in 0..2 {
        let mut client = connect(&path);
        assert_eq!(scene.told(), (1, 6, 1, vec![]), "somebody is there, {round}");
        client.write_all(b"ask").unwrap();
        // The guest hears nothing before it has opened the port.
        scene.say(1, 6, 1);
        assert_eq!(scene.receive(4, 2), b"as");
        assert_eq!(scene.receive(4, 64), b"k");
        scene.send(5, b"answer");
        assert_eq!(read(&mut client, 6), b"answer");
        drop(client);
        // The device sees the end when it looks for more.
        let ring = &mut scene.rings[4];
        ring.add(&[], &[(Scene::at(4), 64)]);
        scene.guest.kick(4);
        assert_eq!(scene.told(), (1, 6, 0, vec![]), "nobody is there, {round}");
        // The buffer is still the device's, and is filled by the next client.
        let mut client = connect(&path);
        assert_eq!(scene.told(), (1, 6, 1, vec![]));
        client.write_all(b"again").unwrap();
        let (_, written) = scene.guest.wait_for_used(4, &mut scene.rings[4]);
        assert_eq!(written, 5);
        // One that sends nothing more is still answered, until the guest closes the port.
        client.shutdown(std::net::Shutdown::Write).unwrap();
        scene.send(5, b"last");
        scene.say(1, 6, 0);
        assert_eq!(scene.told(), (1, 6, 0, vec![]), "the guest has done with it, {round}");
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"last");
        // Nor does one stay that comes and goes while nobody reads.
        drop(connect(&path));
        while scene.told() != (1, 6, 0, vec![]) {}
    }
}

#[test]
fn a_reader_who_does_not_read_costs_a_console_nothing_but_what_is_lost() {
    let (_directory, listener, path) = listen();
    let mut scene = Scene::new(vec![port(None, Backend::Socket(listener))], 0);
    let mut client = connect(&path);
    let block = [b'x'; STRIDE as usize / 2];
    // More than the socket and we keep; each is taken though nobody reads.
    for _ in 0..16 {
        scene.send(1, &block);
    }
    client.set_nonblocking(false).unwrap();
    let mut text = vec![0; KEPT];
    client.read_exact(&mut text).unwrap();
    // Who reads again gets what was kept, and what comes after it.
    scene.send(1, b"END");
    let mut all = 0;
    let mut last = Vec::new();
    while !last.ends_with(b"END") {
        let mut bytes = [0; 65536];
        let length = client.read(&mut bytes).unwrap();
        assert_ne!(length, 0);
        all += length;
        last.extend_from_slice(&bytes[..length]);
        last.drain(..last.len().saturating_sub(3));
        if all > 16 * block.len() {
            break;
        }
        scene.send(1, b"END");
    }
    assert!(all < 16 * block.len(), "nothing was lost of {all}");
}

#[test]
fn a_named_port_keeps_the_guest_waiting_while_its_client_does_not_read() {
    let (_directory, listener, path) = listen();
    let mut scene = Scene::new(vec![port(Some("a"), Backend::Socket(listener))], 0);
    let mut client = connect(&path);
    for number in 0..10_u8 {
        scene.post(1, &[number; STRIDE as usize / 2]);
        // The buffers are one and the same, so each is read before the next is written.
        let bytes = read(&mut client, STRIDE as usize / 2);
        assert!(bytes.iter().all(|byte| *byte == number), "block {number}");
        scene.taken(1);
    }
    // A client who reads nothing of several buffers: they wait, whole, until it does.
    let block = [7; STRIDE as usize / 2];
    scene.guest.ram.guest_memory().write_slice(&block, GuestAddress(Scene::at(1))).unwrap();
    for _ in 0..8 {
        scene.rings[1].add(&[(Scene::at(1), block.len() as u32)], &[]);
    }
    scene.guest.kick(1);
    let bytes = read(&mut client, 8 * block.len());
    assert!(bytes.iter().all(|byte| *byte == 7));
    (0..8).for_each(|_| scene.taken(1));
}

#[test]
fn a_terminal_has_a_size_that_changes() {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use rustix::termios::{Winsize, tcsetwinsize};
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let mut held = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    let resize = |columns, rows| {
        let size = Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&held, size).unwrap();
    };
    resize(80, 24);
    let mut scene = Scene::new(vec![port(None, Backend::Terminal(master.into()))], MULTIPORT);
    scene.say(0, 0, 1);
    scene.say(0, 3, 1);
    scene.say(0, 6, 1);
    let told: Vec<_> = (0..4).map(|_| scene.told()).collect();
    let size = |columns: u8, rows: u8| (0, 5, 0, vec![columns, 0, rows, 0]);
    assert!(told.contains(&size(80, 24)), "{told:?}");
    resize(132, 50);
    // It is looked at whenever somebody types.
    held.write_all(b"k").unwrap();
    assert_eq!(scene.told(), size(132, 50));
    assert_eq!(scene.guest.read::<4>(0x2000), [132, 0, 50, 0]);
    assert_eq!(scene.receive(0, 64), b"k");
}

#[test]
fn what_makes_no_sense_stops_the_device() {
    for (queue, readable, writable) in [(HEAR, 7, 0), (TELL, 0, 4), (0, 8, 0)] {
        let mut scene = Scene::new(vec![port(None, Backend::File(tempfile::tempfile().unwrap()))], MULTIPORT);
        scene.say(0, 0, 1);
        scene.say(0, 6, 1);
        let at = Scene::at(queue);
        let ring = &mut scene.rings[usize::from(queue)];
        let buffers = |length: u32| (length > 0).then_some((at, length));
        ring.add(
            &buffers(readable).into_iter().collect::<Vec<_>>(),
            &buffers(writable).into_iter().collect::<Vec<_>>(),
        );
        scene.guest.kick(queue);
        scene.guest.wait_for_vector(0);
        assert_eq!(scene.guest.status() & 0x40, 0x40, "DEVICE_NEEDS_RESET by queue {queue}");
    }
}

#[test]
fn ports_that_are_not_there_are_no_harm() {
    let mut scene = Scene::new(vec![port(None, Backend::File(tempfile::tempfile().unwrap()))], MULTIPORT);
    for event in [0, 1, 2, 3, 4, 5, 6, 7, 0xffff] {
        for id in [1, 16, 0xffff_ffff] {
            scene.say(id, event, 1);
        }
    }
    assert_eq!(scene.guest.status(), 0xf);
}
