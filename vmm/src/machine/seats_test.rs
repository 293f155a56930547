use proptest::prelude::*;

use super::*;

fn guests(addresses: &[&str]) -> Vec<Guest> {
    let guest =
        |text: &&str| Guest { host: text.trim_end_matches('p').parse().unwrap(), port: text.ends_with('p') };
    addresses.iter().map(guest).collect()
}

fn hosts(addresses: &[&str]) -> Vec<PciAddress> {
    guests(addresses).iter().map(|guest| guest.host).collect()
}

fn device(index: usize) -> Seat<usize> {
    Seat { slot: None, functions: vec![(0, index)] }
}

fn port(slot: u8, functions: &[(u8, usize)]) -> Seat<usize> {
    Seat { slot: Some(slot), functions: functions.to_vec() }
}

#[test]
fn devices_come_in_the_order_in_which_they_were_asked_for() {
    let seats = arrange(&guests(&["03:00.0", "01:00.0", "0001:01:00.0"]), 2);
    assert_eq!(seats, [device(0), device(1), device(2), port(1, &[]), port(2, &[])]);
}

#[test]
fn a_device_behind_a_port_has_the_port_s_seat() {
    let seats = arrange(&guests(&["03:00.0p", "01:00.0", "02:00.0", "02:00.1p"]), 1);
    assert_eq!(seats, [port(1, &[(0, 0)]), device(1), port(2, &[(0, 2), (1, 3)]), port(3, &[])]);
}

#[test]
fn functions_of_one_device_stay_one_device() {
    let devices = devices(&hosts(&["01:00.1", "02:00.0", "01:00.0", "01:00.3"]));
    assert_eq!(devices, [vec![(0, 2), (1, 0), (3, 3)], vec![(0, 1)]]);
}

#[test]
fn without_function_0_they_are_numbered_anew() {
    assert_eq!(devices(&hosts(&["01:00.5"])), [vec![(0, 0)]]);
    assert_eq!(devices(&hosts(&["01:00.6", "01:00.2"])), [vec![(0, 1), (1, 0)]]);
}

fn table() -> Table<usize> {
    Table::new(arrange(&guests(&["03:00.0", "01:00.0p"]), 2))
}

#[test]
fn behind_each_port_is_a_bus() {
    assert_eq!(table().buses(), 4);
    assert_eq!(Table::new(arrange(&guests(&["03:00.0"]), 0)).buses(), 1);
}

#[test]
fn devices_come_into_slots_and_leave_them() {
    let mut table = table();
    assert_eq!(table.reserve(), Some(3));
    assert_eq!(table.reserve(), Some(4), "one at a time for each slot");
    assert_eq!(table.reserve(), None);
    table.settle(4, vec![]);
    table.settle(3, vec![(0, 7), (1, 8)]);
    let functions: Vec<_> = table.functions().map(|(device, number, it)| (device, number, *it)).collect();
    assert_eq!(functions, [(1, 0, 0), (2, 0, 1), (3, 0, 7), (3, 1, 8)]);
    table.ask(3);
    assert_eq!(table.at(3), Some((Some(2), Stage::Leaving)));
    assert_eq!(table.visible()[2], port(2, &[(0, 7), (1, 8)]), "not gone yet");
    assert_eq!(table.take(3), [(0, 7), (1, 8)]);
    assert_eq!(table.reserve(), Some(3));
}

#[test]
fn a_device_that_the_guest_keeps_stays() {
    let mut table = table();
    table.ask(2);
    assert!(table.keep(2));
    assert_eq!(table.at(2), Some((Some(1), Stage::Settled)));
    table.end_run();
    assert_eq!(table.visible()[1], port(1, &[(0, 1)]));
}

#[test]
fn the_next_guest_does_not_find_what_the_last_was_asked_for() {
    let mut table = table();
    table.ask(2);
    table.end_run();
    assert!(!table.keep(2), "whoever was to keep it is gone");
    assert_eq!(table.visible()[1], port(1, &[]));
    assert_eq!(table.reserve(), Some(3), "nobody has taken it yet");
    assert_eq!(table.take(2), [(0, 1)]);
    assert_eq!(table.reserve(), Some(2));
}

#[test]
fn seats_that_do_not_exist_are_nobody_s() {
    let mut table = table();
    assert_eq!((table.at(0), table.at(9)), (None, None));
    table.ask(0);
    table.settle(9, vec![(0, 1)]);
    assert!(!table.keep(9) && table.take(0).is_empty());
}

proptest! {
    /// Whatever the order of events: no function is lost, none is in two seats, and what is on its way is not visible
    /// before it is there.
    #[test]
    fn no_function_is_lost(steps in prop::collection::vec((0u8..6, 1u8..5), 0..60)) {
        let mut table = table();
        let (mut outside, mut next) = (Vec::new(), 10);
        let mut made = vec![0, 1];
        for (step, device) in steps {
            match step {
                0 => { let _ = table.reserve(); }
                1 if table.at(device).is_some_and(|(_, stage)| stage == Stage::Coming) => {
                    table.settle(device, vec![(0, next)]);
                    made.push(next);
                    next += 1;
                }
                2 if table.at(device).is_some_and(|(slot, _)| slot.is_some()) => table.ask(device),
                3 => { let _ = table.keep(device); }
                4 if matches!(table.at(device), Some((_, Stage::Leaving | Stage::Gone))) => {
                    outside.extend(table.take(device).into_iter().map(|(_, it)| it));
                }
                5 => table.end_run(),
                _ => {}
            }
            let mut all: Vec<usize> = table.functions().map(|(_, _, it)| *it).chain(outside.iter().copied()).collect();
            all.sort_unstable();
            prop_assert_eq!(&all, &made);
            for (device, seat) in (1..).zip(table.visible()) {
                let (_, stage) = table.at(device).unwrap();
                prop_assert!(!matches!(stage, Stage::Coming | Stage::Gone) || seat.functions.is_empty());
            }
        }
    }
}
