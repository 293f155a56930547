use std::collections::BTreeMap;
use std::sync::Mutex;

use proptest::prelude::*;

use super::*;
use crate::GuestRange;
use crate::bytes::GIB;
use crate::residency::nodes::IdList;

fn units(count: u64, size: u64) -> Vec<Chunk> {
    let unit = |i| Chunk { guest: GuestRange::new(i * size, size), hva: i * size, offset: i * size };
    (0..count).map(unit).collect()
}

fn node(id: u32, cpus: &str, free: u64) -> Node {
    Node { id, cpus: IdList::parse(cpus).unwrap(), free, total: 0 }
}

fn cpus(ids: impl IntoIterator<Item = usize>) -> CpuSet {
    let mut set = CpuSet::new();
    ids.into_iter().for_each(|id| set.set(id));
    set
}

#[test]
fn small_guests_keep_all_threads_busy() {
    assert_eq!(balanced_unit(512 * MIB, GIB, 1), 256 * MIB);
    assert_eq!(balanced_unit(512 * MIB, GIB, 2), 128 * MIB);
    assert_eq!(balanced_unit(512 * MIB, GIB, 64), 64 * MIB);
    assert_eq!(balanced_unit(1024 * GIB, GIB, 64), GIB);
    assert_eq!(balanced_unit(512 * MIB, 2 * MIB, 1000), 2 * MIB);
    assert_eq!(balanced_unit(u64::MAX, 258 * MIB, usize::MAX), 66 * MIB);
}

#[test]
fn a_node_gets_what_it_has_room_for() {
    assert_eq!(share(&[1; 12], &[2, 1]), [0..8, 8..12]);
    assert_eq!(share(&[1; 4], &[1, 0, 1]), [0..2, 2..2, 2..4]);
    assert_eq!(share(&[1; 4], &[0, 0]), [0..2, 2..4]);
    assert_eq!(share(&[1], &[1, 1000]), [0..0, 0..1]);
    assert_eq!(share(&[], &[1, 1]), [0..0, 0..0]);
    assert_eq!(share(&[1, 1], &[7])[0], 0..2);
}

#[test]
fn nodes_with_cpus_are_chosen() {
    let nodes = [node(0, "0-1", 10), node(1, "2-3", 20), node(2, "", 30)];
    let chosen = |nodes: &[Node], allowed: CpuSet, threads| -> Vec<(u32, usize)> {
        choose(nodes, &allowed, NonZero::new(threads)).iter().map(|it| (it.node, it.threads)).collect()
    };
    assert_eq!(chosen(&nodes, cpus(0..4), 0), [(0, 2), (1, 2)]);
    assert_eq!(chosen(&nodes, cpus([1, 2, 3]), 0), [(0, 1), (1, 2)]);
    assert_eq!(chosen(&nodes, cpus(0..4), 5), [(0, 3), (1, 2)]);
    // Nothing to choose: a cpuset leaves one node, or there are fewer threads than nodes.
    assert_eq!(chosen(&nodes, cpus([0, 1]), 0), []);
    assert_eq!(chosen(&nodes, cpus(0..4), 1), []);
    assert_eq!(chosen(&nodes[..1], cpus(0..4), 0), []);
    let large = [node(0, "0-127", 1), node(1, "128-1023,5000", 1)];
    assert_eq!(chosen(&large, cpus(0..1024), 0), [(0, 16), (1, 16)]);
}

#[test]
fn crews_have_runs_of_units() {
    let nodes = [node(3, "0", 10), node(5, "1", 30)];
    let places = choose(&nodes, &cpus(0..2), None);
    let units = units(8, MIB);
    let crews = Crew::muster(&units, &places, threads(None, &places), |_| None);
    let shares: Vec<_> = crews.iter().filter_map(Crew::node).collect();
    assert_eq!(shares, [(3, 2 * MIB), (5, 6 * MIB)]);
    assert_eq!(crews[1].units, &units[2..]);
    let anywhere = Crew::muster(&units, &[], 3, |_| Some(5));
    let bound = |unit: &Chunk| Some([5, 3, 9][(unit.offset / (3 * MIB)) as usize]);
    let chosen = Crew::muster(&units, &places, 4, bound);
    assert_eq!(
        chosen.iter().map(Crew::node).collect::<Vec<_>>(),
        [Some((5, 3 * MIB)), Some((3, 3 * MIB)), None]
    );
    assert_eq!((anywhere.len(), anywhere[0].threads, anywhere[0].node()), (1, 3, None));
}

#[test]
fn threads_run_where_their_crew_is() {
    let allowed = sched_getaffinity(None).unwrap();
    let ids: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).take(2).collect();
    let places: Vec<Place> =
        ids.iter().map(|id| Place { node: *id as u32, cpus: cpus([*id]), free: 1, threads: 1 }).collect();
    let units = units(8, MIB);
    let crews = Crew::muster(&units, &places, threads(None, &places), |_| None);
    let seen = Mutex::new(BTreeMap::new());
    let work = || {
        |unit: &Chunk| {
            let affinity = sched_getaffinity(None).unwrap();
            // A process that is started here inherits it.
            let child = std::process::Command::new("cat").arg("/proc/self/status").output().unwrap();
            let status = String::from_utf8(child.stdout).unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
            let child = IdList::parse(line.unwrap()).unwrap();
            seen.lock().unwrap().insert(unit.offset, (affinity, child));
            Ok::<_, ()>(())
        }
    };
    spread(&crews, &AtomicBool::new(false), work, |_| ());
    let seen = seen.into_inner().unwrap();
    assert_eq!(seen.len(), 8);
    for crew in &crews {
        let (node, _) = crew.node().unwrap();
        for unit in crew.units {
            let (affinity, child) = &seen[&unit.offset];
            assert!(affinity.is_set(node as usize) && affinity.count() == 1);
            assert!(
                child.contains(node)
                    && !ids.iter().any(|id| *id as u32 != node && child.contains(*id as u32))
            );
        }
    }
    // This thread stays as it was.
    assert_eq!(sched_getaffinity(None).unwrap(), allowed);
}

#[test]
fn the_first_error_stops_all() {
    let units = units(100, MIB);
    let stop = AtomicBool::new(false);
    let mut results = Vec::new();
    let work = || |unit: &Chunk| if unit.offset == 3 * MIB { Err("busy") } else { Ok(unit.offset / MIB) };
    spread(&[Crew::anywhere(&units, 1)], &stop, work, |result| results.extend(result));
    assert_eq!(results, [Ok(0), Ok(1), Ok(2), Err("busy")]);
    assert!(stop.load(Ordering::Relaxed));
}

proptest! {
    #[test]
    fn shares_are_whole_and_fair(
        sizes in proptest::collection::vec(1..1u64 << 40, 0..60),
        free in proptest::collection::vec(prop_oneof![Just(0), 0..1u64 << 40, any::<u64>()], 1..12),
    ) {
        let runs = share(&sizes, &free);
        prop_assert_eq!(runs.len(), free.len());
        let mut next = 0;
        for run in &runs {
            prop_assert!(run.start == next && run.end >= run.start);
            next = run.end;
        }
        prop_assert_eq!(next, sizes.len());
        let total: u64 = sizes.iter().sum();
        let all: f64 = free.iter().map(|free| *free as f64).sum();
        let largest = sizes.iter().copied().max().unwrap_or(0) as f64;
        for (run, free) in runs.iter().zip(&free) {
            let got: u64 = sizes[run.clone()].iter().sum();
            let share = if all == 0.0 { 1.0 / runs.len() as f64 } else { *free as f64 / all };
            // Off by half a part at either end at the most.
            prop_assert!((got as f64 - total as f64 * share).abs() <= largest + 1.0, "{:?} {}", runs, got);
        }
    }
}
