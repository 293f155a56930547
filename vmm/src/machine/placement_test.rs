use rustix::thread::sched_getaffinity;

use super::*;

fn problems_of(placement: &Placement, vcpus: u32) -> Vec<String> {
    let mut problems = Problems::default();
    placement.validate(vcpus, &mut problems);
    problems.0.iter().map(|problem| problem.what.to_string()).collect()
}

fn pinned(cpus: &[u32]) -> Placement {
    Placement { vcpus: cpus.iter().map(|cpu| vec![*cpu]).collect(), ..Placement::default() }
}

#[test]
fn every_vcpu_has_a_cpu_of_its_own_or_none_has() {
    assert_eq!(problems_of(&Placement::default(), 4), [""; 0]);
    assert_eq!(problems_of(&pinned(&[3, 2]), 2), [""; 0]);
    let three = problems_of(&pinned(&[3, 2, 1]), 2);
    assert_eq!(three, ["--cpu-affinity names 3 CPUs of the host, the machine has 2 vCPUs"]);
    assert_eq!(problems_of(&pinned(&[3, 3]), 2), ["--cpu-affinity names CPU 3 of the host twice"]);
    let shared = Placement { vcpus: vec![vec![2, 3], vec![2, 3]], ..Placement::default() };
    assert_eq!(problems_of(&shared, 2), [""; 0]);
    let priority = |priority| problems_of(&Placement { realtime: Some(priority), ..Placement::default() }, 1);
    assert_eq!((priority(1).len(), priority(99).len(), priority(0).len(), priority(100).len()), (0, 0, 1, 1));
}

#[test]
fn kvm_polls_for_what_32_bits_of_nanoseconds_can_say() {
    let poll = |ms| {
        let halt_poll = Some(Duration::from_millis(ms));
        problems_of(&Placement { halt_poll, ..Placement::default() }, 1)
    };
    assert_eq!((poll(0), poll(4000)), (vec![], vec![]));
    assert_eq!(poll(5000), ["--halt-poll 5000 ms is longer than KVM can poll"]);
}

#[test]
fn cpus_that_cannot_be_used_are_named() {
    let allowed = sched_getaffinity(None).unwrap();
    let usable = (0..CpuSet::MAX_CPU).find(|cpu| allowed.is_set(*cpu)).unwrap() as u32;
    for (cpus, expected) in [
        (vec![usable], vec![]),
        (
            vec![usable, 1023, 4096],
            vec![PlacementError::Unavailable(1023), PlacementError::Unavailable(4096)],
        ),
    ] {
        let placement = Placement { housekeeping: cpus.clone(), ..Placement::default() };
        let named = cpus.into_iter().collect();
        let tried = thread::spawn(move || placement.tried(&named)).join().unwrap();
        assert_eq!(tried, expected);
    }
}

#[test]
fn a_thread_is_where_it_is_put() {
    let allowed = sched_getaffinity(None).unwrap();
    let usable = (0..CpuSet::MAX_CPU).rfind(|cpu| allowed.is_set(*cpu)).unwrap();
    let placed = thread::spawn(move || {
        pinned(&[0, usable as u32]).place(1).unwrap();
        let there = sched_getaffinity(None).unwrap();
        // One that is not named stays where it is.
        pinned(&[]).place(0).unwrap();
        (there.count(), there.is_set(usable), sched_getaffinity(None).unwrap() == there)
    });
    assert_eq!(placed.join().unwrap(), (1, true, true));
}
