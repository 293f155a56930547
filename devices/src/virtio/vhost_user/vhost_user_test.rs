use std::os::unix::fs::MetadataExt;
use std::time::Instant;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};
use tempfile::TempDir;
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;

use super::scripted::*;
use super::*;
use crate::virtio::testing::{BUFFERS, DriverRing, Guest};

const KIND: DeviceType = DeviceType { id: 26, pci_class: 0x01_8000 };
/// So long that it only matters if something is wrong.
const LONG: Duration = Duration::from_secs(60);
const NEEDS_RESET: u8 = 0x40;

fn wanted(socket: PathBuf) -> Wanted {
    Wanted {
        name: "test device".to_owned(),
        socket,
        device: KIND,
        features: 1 << 3,
        ours: 1 << 5,
        queue_sizes: vec![16; 2],
        config: Config::Ours(vec![1, 2, 3]),
        patience: LONG,
    }
}

/// A guest whose device a daemon serves.
struct Scene {
    _directory: TempDir,
    daemon: Scripted,
    guest: Guest,
    rings: Vec<DriverRing>,
}

impl Scene {
    fn new(habits: Habits) -> Self {
        Self::with(habits, LONG)
    }

    fn with(habits: Habits, patience: Duration) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let daemon = Scripted::start(directory.path().join("socket"), habits);
        let device = VhostUser::connect(Wanted { patience, ..wanted(daemon.path.clone()) }).unwrap();
        let guest = Guest::new(Arc::new(device));
        let mut scene = Self { _directory: directory, daemon, guest, rings: Vec::new() };
        scene.fresh_rings();
        scene
    }

    fn fresh_rings(&mut self) {
        self.rings = (0..2).map(|index| DriverRing::new(&self.guest.ram, index, 16, false)).collect();
    }

    fn start(&mut self) {
        self.guest.start(self.rings[0].features(), &self.rings.iter().collect::<Vec<_>>());
    }

    /// Waits until the daemon was told of both rings.
    fn wait_for_rings(&mut self) {
        (0..2).for_each(|_| drop(self.daemon.wait_for(SET_VRING_ENABLE)));
    }

    /// As a daemon does: takes the kick, uses chain `id` of ring 0 as its use number `index`, and signals.
    fn use_chain(&self, id: u16, index: u16) {
        self.daemon.wait_for_event(SET_VRING_KICK, 0);
        let ring = &self.rings[0];
        let at = ring.at.device + 4 + u64::from(index % 16) * 8;
        ring.put(at, u32::from(id));
        ring.put(at + 4, 0_u32);
        ring.put(ring.at.device + 2, index.wrapping_add(1));
        self.daemon.signal(SET_VRING_CALL, 0);
    }

    /// Another daemon at the same path.
    fn replace(&mut self, habits: Habits) {
        let path = self.daemon.path.clone();
        let next = Scripted::start(path, habits);
        std::mem::replace(&mut self.daemon, next).die();
    }
}

#[test]
fn a_daemon_serves_the_rings_and_lets_go_of_them() {
    let mut scene = Scene::new(Habits::default());
    scene.start();
    scene.wait_for_rings();
    // One region, by guest physical addresses, and the memfd itself.
    let table = scene.daemon.body(SET_MEM_TABLE, 1).to_vec();
    let region = scene.guest.ram.regions()[0];
    let told: Vec<u64> = (0..4).map(|field| number(&table, 8 + field * 8)).collect();
    assert_eq!(told, [region.guest.start, region.guest.size, region.guest.start, region.offset]);
    assert_eq!(number(&table, 0) as u32, 1);
    let metadata = scene.daemon.file(SET_MEM_TABLE, 1).metadata().unwrap();
    assert_eq!(metadata.len(), region.offset + region.guest.size);
    let at = scene.rings[1].at;
    let address = scene.daemon.body(SET_VRING_ADDR, 1);
    let told: Vec<u64> = (0..3).map(|field| number(address, 8 + field * 8)).collect();
    assert_eq!(told, [at.descriptors, at.device, at.driver]);
    // Doorbell, chain, interrupt.
    scene.daemon.wait_for_event(SET_VRING_KICK, 0);
    let id = scene.rings[0].add(&[(BUFFERS, 8)], &[]);
    scene.guest.kick(0);
    scene.use_chain(id, 0);
    assert_eq!(scene.guest.wait_for_used(0, &mut scene.rings[0]), (id, 0));
    // The reset is over when both rings are let go of, and another driver begins at the beginning.
    scene.guest.write(0x14, &[0]);
    (0..2).for_each(|_| drop(scene.daemon.wait_for(GET_VRING_BASE)));
    scene.fresh_rings();
    scene.start();
    scene.wait_for_rings();
    assert_eq!(number(scene.daemon.body(SET_VRING_BASE, 0), 0), 0);
}

#[test]
fn features_are_the_daemons_and_ours_and_no_others() {
    let all = Scene::new(Habits { features: u64::MAX, protocol: u64::MAX, ..Habits::default() });
    let reset = 1 << VIRTIO_F_RING_RESET;
    let expected = 1 << 3 | 1 << 5 | 1 << 28 | 1 << 29 | 1 << 32 | reset;
    assert_eq!(all.guest.features(), expected);
    let mut few = Scene::new(Habits { features: 1 << 32 | 1 << 30, protocol: 0, ..Habits::default() });
    assert_eq!(few.guest.features(), 1 << 5 | 1 << 32 | reset);
    // Without acknowledgements too, and what is ours the daemon never hears of.
    few.guest.start(1 << 5 | 1 << 32, &few.rings.iter().collect::<Vec<_>>());
    few.wait_for_rings();
    assert_eq!(number(few.daemon.body(SET_FEATURES, 0), 0), 1 << 32 | 1 << 30);
}

#[test]
fn the_daemon_that_comes_back_goes_on_where_the_one_before_ended() {
    let mut scene = Scene::new(Habits::default());
    scene.start();
    scene.wait_for_rings();
    scene.daemon.wait_for_event(SET_VRING_KICK, 0);
    for index in 0..3 {
        let id = scene.rings[0].add(&[(BUFFERS, 8)], &[]);
        scene.guest.kick(0);
        scene.use_chain(id, index);
        assert_eq!(scene.guest.wait_for_used(0, &mut scene.rings[0]), (id, 0));
    }
    let record = scene.daemon.file(SET_INFLIGHT_FD, 0).metadata().unwrap().ino();
    // One that the daemon has taken and not used, and one that comes while there is none.
    let taken = scene.rings[0].add(&[(BUFFERS, 8)], &[]);
    scene.guest.kick(0);
    scene.daemon.wait_for_event(SET_VRING_KICK, 0);
    scene.replace(Habits::default());
    let late = scene.rings[0].add(&[(BUFFERS, 8)], &[]);
    scene.guest.kick(0);
    scene.wait_for_rings();
    assert_eq!(number(scene.daemon.body(SET_VRING_BASE, 0), 0) >> 32, 3);
    assert_eq!(scene.daemon.file(SET_INFLIGHT_FD, 0).metadata().unwrap().ino(), record);
    scene.use_chain(taken, 3);
    assert_eq!(scene.guest.wait_for_used(0, &mut scene.rings[0]), (taken, 0));
    scene.guest.kick(0);
    scene.use_chain(late, 4);
    assert_eq!(scene.guest.wait_for_used(0, &mut scene.rings[0]), (late, 0));
    assert_eq!(scene.guest.status() & NEEDS_RESET, 0);
}

#[test]
fn a_daemon_that_offers_less_than_the_one_before_is_not_taken() {
    let mut scene = Scene::new(Habits::default());
    let features = scene.rings[0].features() | 1 << VIRTIO_RING_F_EVENT_IDX;
    scene.guest.start(features, &scene.rings.iter().collect::<Vec<_>>());
    scene.wait_for_rings();
    scene.replace(Habits { features: 1 << 32 | 1 << 30, ..Habits::default() });
    scene.daemon.wait_for(GET_FEATURES);
    scene.replace(Habits::default());
    scene.wait_for_rings();
    assert_eq!(number(scene.daemon.body(SET_FEATURES, 0), 0), features | 1 << 30);
}

#[test]
fn a_driver_may_be_ready_before_its_daemon_is_back() {
    let mut scene = Scene::new(Habits::default());
    scene.daemon.wait_for(GET_QUEUE_NUM);
    scene.replace(Habits::default());
    scene.start();
    scene.wait_for_rings();
    let id = scene.rings[0].add(&[(BUFFERS, 8)], &[]);
    scene.guest.kick(0);
    scene.use_chain(id, 0);
    assert_eq!(scene.guest.wait_for_used(0, &mut scene.rings[0]), (id, 0));
}

#[test]
fn a_daemon_is_told_of_other_interrupts_and_none_is_lost() {
    for protocol in [PROTOCOL, 1] {
        let mut scene = Scene::new(Habits { protocol, ..Habits::default() });
        scene.start();
        scene.wait_for_rings();
        // Ring 0 gets the vector of ring 1.
        scene.guest.wait_for_vector(2);
        scene.guest.write(0x16, &0_u16.to_le_bytes());
        scene.guest.write(0x1a, &2_u16.to_le_bytes());
        scene.daemon.wait_for(SET_VRING_CALL);
        // What the daemon may have signalled elsewhere meanwhile is made up for.
        scene.guest.wait_for_vector(2);
        scene.daemon.signal(SET_VRING_CALL, 0);
        scene.guest.wait_for_vector(2);
    }
}

#[test]
fn one_queue_is_reset_and_begins_anew() {
    let mut scene = Scene::new(Habits::default());
    let features = scene.rings[0].features() | 1 << VIRTIO_F_RING_RESET;
    scene.guest.start(features, &scene.rings.iter().collect::<Vec<_>>());
    scene.wait_for_rings();
    scene.guest.write(0x16, &1_u16.to_le_bytes());
    scene.guest.write(0x3a, &1_u16.to_le_bytes());
    assert_eq!(number(&scene.daemon.wait_for(GET_VRING_BASE), 0) as u32, 1);
    scene.guest.enable(1, &scene.rings[1].at);
    assert_eq!(number(&scene.daemon.wait_for(SET_VRING_ENABLE), 0), 1 << 32 | 1);
}

#[test]
fn a_ring_that_the_daemon_cannot_serve_needs_a_reset() {
    let mut scene = Scene::new(Habits::default());
    scene.start();
    scene.wait_for_rings();
    scene.daemon.signal(SET_VRING_ERR, 1);
    scene.guest.wait_for_vector(0);
    assert_eq!(scene.guest.status() & NEEDS_RESET, NEEDS_RESET);
}

#[test]
fn a_daemon_that_does_not_let_go_is_left() {
    let habits = Habits { silent_at: Some(GET_VRING_BASE), ..Habits::default() };
    let mut scene = Scene::with(habits, Duration::from_millis(300));
    scene.start();
    scene.wait_for_rings();
    let before = Instant::now();
    scene.guest.write(0x14, &[0]);
    assert_eq!(scene.guest.status(), 0);
    assert!(before.elapsed() < LONG);
    // The next driver gets the next daemon.
    scene.replace(Habits::default());
    scene.fresh_rings();
    scene.start();
    scene.wait_for_rings();
}

/// What is said of a daemon with these habits.
fn refusal(habits: Habits, patience: Duration) -> String {
    let directory = tempfile::tempdir().unwrap();
    let daemon = Scripted::start(directory.path().join("socket"), habits);
    let wanted = Wanted { patience, ..wanted(daemon.path.clone()) };
    let error = VhostUser::connect(wanted).err().expect("it is taken");
    assert!(miette::Diagnostic::help(&error).is_some());
    error.to_string().replace(&daemon.path.display().to_string(), "S")
}

#[test]
fn hostile_daemons_are_refused_before_the_guest_starts() {
    let usual = Habits::default;
    let old = Habits { features: 1 << 30, ..usual() };
    assert_eq!(refusal(old, LONG), "the daemon at S does not know virtio 1.0 (VIRTIO_F_VERSION_1)");
    let older = Habits { features: 1 << 32, ..usual() };
    assert!(refusal(older, LONG).contains("does not know protocol features"));
    let few = Habits { queues: 1, ..usual() };
    assert_eq!(refusal(few, LONG), "the daemon at S serves 1 queues, the device is to have 2");
    let many = Habits { queues: u64::MAX, ..usual() };
    assert_eq!(
        refusal(many, LONG),
        "the daemon at S gives no sensible answer, asked for its number of queues"
    );
    let requests =
        [(GET_FEATURES, "its features"), (GET_PROTOCOL_FEATURES, "its protocol features"), (3, "being ours")];
    for (code, step) in requests {
        let silent = Habits { silent_at: Some(code), ..usual() };
        let patience = Duration::from_millis(200);
        assert_eq!(
            refusal(silent, patience),
            format!("the daemon at S did not answer within 200ms, asked for {step}")
        );
        let closes = Habits { closes_at: Some(code), ..usual() };
        assert_eq!(refusal(closes, LONG), format!("the daemon at S closed the connection, asked for {step}"));
        let babbles = Habits { babbles_at: Some(code), ..usual() };
        assert_eq!(
            refusal(babbles, LONG),
            format!("the daemon at S gives no sensible answer, asked for {step}")
        );
    }
}

#[test]
fn a_configuration_is_the_daemons_if_it_makes_sense() {
    fn settle(config: &mut [u8], queues: u16) -> Result<(), &'static str> {
        config[1] = queues as u8;
        if config[0] == 0 { Err("it is nothing") } else { Ok(()) }
    }
    let said = |habits: Habits, patience: Duration| {
        let directory = tempfile::tempdir().unwrap();
        let daemon = Scripted::start(directory.path().join("socket"), habits);
        let config = Config::Daemons { size: 3, settle };
        VhostUser::connect(Wanted { config, patience, ..wanted(daemon.path.clone()) })
    };
    let with = |config: &[u8]| Habits { config: config.to_vec(), ..Habits::default() };
    let device = said(with(&[7, 8, 9]), LONG).unwrap();
    let mut read = [0xaa; 4];
    device.read_config(1, &mut read);
    assert_eq!(read, [2, 9, 0, 0]);
    assert!(matches!(said(with(&[0, 8, 9]), LONG), Err(DaemonError::Config { what: "it is nothing", .. })));
    // Too long, and too short, which is waited for.
    assert!(matches!(said(with(&[7, 8, 9, 10]), LONG), Err(DaemonError::Nonsense { .. })));
    let short = said(with(&[7, 8]), Duration::from_millis(200));
    assert!(matches!(short, Err(DaemonError::Silent { .. })));
    let none = Habits { protocol: 1, ..with(&[7, 8, 9]) };
    assert!(matches!(said(none, LONG), Err(DaemonError::Lacks { .. })));
}

#[test]
fn sockets_that_nobody_serves_are_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let said = |path: PathBuf| VhostUser::connect(wanted(path)).err().unwrap();
    let missing = directory.path().join("missing");
    assert!(matches!(said(missing), DaemonError::Missing(_)));
    assert!(matches!(said("/proc/self/exe/socket".into()), DaemonError::Missing(_)));
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert!(matches!(said(file), DaemonError::NoSocket(_)));
    let left = directory.path().join("left");
    drop(std::os::unix::net::UnixListener::bind(&left).unwrap());
    assert!(matches!(said(left), DaemonError::Ended(_)));
    // One waits to be taken, and there is no room for another.
    let (full, flags) = (directory.path().join("full"), SocketFlags::CLOEXEC);
    let listener = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
    bind(&listener, &SocketAddrUnix::new(&full).unwrap()).unwrap();
    listen(&listener, 0).unwrap();
    let _waiting = std::os::unix::net::UnixStream::connect(&full).unwrap();
    assert!(matches!(said(full), DaemonError::Busy(_)));
    assert!(matches!(said(directory.path().join("x".repeat(120))), DaemonError::Connect { .. }));
}

#[test]
fn a_daemon_that_fills_an_eventfd_holds_up_no_reset() {
    let mut scene = Scene::new(Habits::default());
    scene.start();
    scene.wait_for_rings();
    scene.daemon.wait_for_event(SET_VRING_KICK, 0);
    // Flags and counter are shared by all who have it.
    let mut kick = scene.daemon.file(SET_VRING_KICK, 0);
    rustix::io::ioctl_fionbio(kick, false).unwrap();
    std::io::Write::write_all(&mut kick, &(u64::MAX - 1).to_le_bytes()).unwrap();
    scene.replace(Habits::default());
    scene.wait_for_rings();
    let Scene { guest, mut daemon, .. } = scene;
    std::thread::spawn(move || guest.write(0x14, &[0]));
    (0..2).for_each(|_| drop(daemon.wait_for(GET_VRING_BASE)));
}
