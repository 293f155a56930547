use super::*;

#[test]
fn nonsense_of_the_host_does_not_reach_the_guest() {
    let odd = Topology { logical: 0, physical: 1000, minimum: 700, optimal: 65535, discard: 0 };
    let sensible = Topology { logical: 512, physical: 512, minimum: 512, optimal: 0, discard: 512 };
    assert_eq!(odd.made_sensible(), sensible);
}

#[test]
fn blocks_are_no_smaller_than_what_they_are_made_of() {
    let native = Topology { logical: 4096, physical: 512, minimum: 512, optimal: 1 << 20, discard: 512 };
    let sensible = Topology { logical: 4096, physical: 4096, minimum: 4096, optimal: 1 << 20, discard: 4096 };
    assert_eq!(native.made_sensible(), sensible);
}

#[test]
fn clusters_are_given_back_as_a_whole() {
    let topology = Topology::of_clusters(65536);
    assert_eq!((topology.logical, topology.optimal, topology.discard), (512, 65536, 65536));
}
