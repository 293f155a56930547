use std::sync::Mutex;

use super::*;

/// Reads back the offset it was read at, and remembers the last write.
#[derive(Default)]
struct Echo {
    written: Mutex<Option<(u64, Vec<u8>)>>,
}

impl BusDevice for Echo {
    fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(offset as u8);
    }
    fn write(&self, offset: u64, data: &[u8]) -> Action {
        *self.written.lock().unwrap() = Some((offset, data.to_vec()));
        Action::Reset
    }
}

fn bus_with(windows: &[(u64, u64)]) -> (Bus, Arc<Echo>) {
    let (bus, echo) = (Bus::new("test"), Arc::new(Echo::default()));
    for &(start, size) in windows {
        bus.insert(GuestRange { start, size }, echo.clone()).unwrap();
    }
    (bus, echo)
}

fn read<const N: usize>(bus: &Bus, address: u64) -> [u8; N] {
    let mut data = [0x5a; N];
    bus.read(address, &mut data);
    data
}

#[test]
fn routes_to_the_window_that_holds_the_access() {
    let (bus, echo) = bus_with(&[(0x1000, 0x10), (0x1010, 8)]);
    assert_eq!(read::<4>(&bus, 0x100c), [0xc; 4]);
    assert_eq!(read::<8>(&bus, 0x1010), [0; 8]);
    assert_eq!(bus.write(0x1016, &[1, 2]), Action::Reset);
    assert_eq!(echo.written.lock().unwrap().take(), Some((6, vec![1, 2])));
}

#[test]
fn accesses_wait_for_nobody_who_changes_the_bus() {
    let (bus, _) = bus_with(&[(0x1000, 0x10)]);
    let changing = sync::lock(&bus.changes);
    assert_eq!(read::<1>(&bus, 0x1001), [1]);
    assert_eq!(bus.write(0x1001, &[1]), Action::Reset);
    drop(changing);
}

#[test]
fn nobody_answers_outside_or_across_windows() {
    let (bus, echo) = bus_with(&[(0x1000, 0x10), (0x1010, 8)]);
    assert_eq!(read::<1>(&bus, 0xfff), [0xff]);
    assert_eq!(read::<4>(&bus, 0xffe), [0xff; 4], "starts before");
    assert_eq!(read::<4>(&bus, 0x100e), [0xff; 4], "crosses into the next window");
    assert_eq!(read::<8>(&bus, 0x1014), [0xff; 8], "ends past the window");
    assert_eq!(read::<3>(&bus, 0x1000), [0xff; 3], "no such access size");
    assert_eq!(read::<8>(&bus, u64::MAX), [0xff; 8]);
    assert_eq!(bus.write(0x1017, &[0; 2]), Action::None);
    assert_eq!(bus.write(0x1000, &[]), Action::None);
    assert!(echo.written.lock().unwrap().is_none());
}

#[test]
fn refuses_overlaps_and_unusable_windows() {
    let (bus, echo) = bus_with(&[(0x1000, 0x10)]);
    for (start, size) in [(0x1000, 0x10), (0xfff, 2), (0x100f, 1), (0, 0x10000), (0x1004, 4)] {
        let refused = bus.insert(GuestRange { start, size }, echo.clone());
        assert!(matches!(refused, Err(BusError::Overlap { .. })), "{start:#x}+{size:#x}");
    }
    for (start, size) in [(0x2000, 0), (u64::MAX, 2), (1, u64::MAX)] {
        let refused = bus.insert(GuestRange { start, size }, echo.clone());
        assert!(matches!(refused, Err(BusError::Unusable { .. })), "{start:#x}+{size:#x}");
    }
    bus.insert(GuestRange::new(0x1010, 1), echo.clone()).unwrap();
    bus.insert(GuestRange::new(0xff0, 0x10), echo).unwrap();
}

#[test]
fn the_end_of_the_address_space_is_reachable() {
    let (bus, _) = bus_with(&[(u64::MAX - 0x10, 0x10)]);
    assert_eq!(read::<8>(&bus, u64::MAX - 8), [8; 8]);
    assert_eq!(read::<8>(&bus, u64::MAX - 7), [0xff; 8]);
}

#[test]
fn an_access_waits_for_nobody_who_changes_the_bus() {
    let (bus, _) = bus_with(&[(0x1000, 0x10)]);
    let changing = bus.changes.lock().unwrap();
    assert_eq!(read::<8>(&bus, 0x1000), [0; 8]);
    assert_eq!(read::<8>(&bus, 0x2000), [0xff; 8]);
    assert_eq!(bus.write(0x1000, &[0; 4]), Action::Reset);
    drop(changing);
}

#[test]
fn a_device_may_change_the_bus_it_is_called_on() {
    struct Leaves(Arc<Bus>);
    impl BusDevice for Leaves {
        fn read(&self, _: u64, data: &mut [u8]) {
            data.fill(0);
        }
        fn write(&self, _: u64, _: &[u8]) -> Action {
            self.0.remove(0x10);
            Action::None
        }
    }
    let bus = Arc::new(Bus::default());
    bus.insert(GuestRange::new(0x10, 4), Arc::new(Leaves(Arc::clone(&bus)))).unwrap();
    assert_eq!(read::<4>(&bus, 0x10), [0; 4]);
    assert_eq!(bus.write(0x10, &[0]), Action::None);
    assert_eq!(read::<4>(&bus, 0x10), [0xff; 4]);
}
