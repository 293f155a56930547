use super::*;
use crate::init::fixture::Fixture;

fn problems(fixture: &Fixture, events: &Uevents) -> String {
    let mut out = Vec::new();
    for_disks(&fixture.system(), events, &mut Report::new(&mut out));
    String::from_utf8(out).unwrap()
}

#[test]
fn a_disk_that_appears_late_is_seen_with_and_without_events() {
    for events in [Uevents::open(), Uevents { socket: None }] {
        let fixture = Fixture::new();
        fixture.nvme("live\n", Some(("nvme0n1", "nvme0n1")));
        let started = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(50));
                fixture.write("dev/nvme0n1", "");
            });
            assert_eq!(problems(&fixture, &events), "");
        });
        assert!(started.elapsed() < NAMESPACE_DEADLINE);
    }
}

#[test]
fn there_is_nothing_to_wait_for_without_the_driver() {
    let fixture = Fixture::new();
    fixture.bind("0000:00:01.0", "vfio-pci");
    let started = Instant::now();
    assert_eq!(problems(&fixture, &Uevents::open()), "");
    assert!(started.elapsed() < HEARTBEAT);
}
