use memory::bytes::GIB;
use memory::layout::AddressLimits;
use memory::residency::nodes::IdList;

use super::*;

fn node(memory: u64, cpus: &[u32], host_node: Option<u32>) -> NumaNode {
    NumaNode { memory, cpus: cpus.to_vec(), host_node }
}

fn machine(memory: u64, cpus: u32, numa: Vec<NumaNode>) -> MachineSpec {
    MachineSpec { memory, cpus, numa, ..MachineSpec::for_api() }
}

#[test]
fn all_memory_and_each_cpu_is_on_a_node() {
    let good = machine(3 * GIB, 4, vec![node(GIB, &[0, 3], None), node(2 * GIB, &[2, 1], Some(0))]);
    assert_eq!(errors(&good), []);
    assert_eq!(errors(&machine(GIB, 4, Vec::new())), []);
    let bad = machine(3 * GIB, 4, vec![node(GIB + 4096, &[0, 4], None), node(0, &[0, 1], None)]);
    let expected = [
        NumaError::Uneven { size: GIB + 4096 },
        NumaError::Uneven { size: 0 },
        NumaError::Memory { nodes: GIB + 4096, machine: 3 * GIB },
        NumaError::NoCpu { cpu: 4, cpus: 4 },
        NumaError::Twice(0),
        NumaError::Homeless(2),
    ];
    assert_eq!(errors(&bad), expected);
    let many = machine(65 * GRANULE, 1, (0..65).map(|_| node(GRANULE, &[], None)).collect());
    assert_eq!(errors(&many), [NumaError::TooMany(65), NumaError::Homeless(0)]);
    let mut huge = machine(GIB, 1, vec![node(GIB, &[0], Some(0))]);
    huge.backing = Backing::HugePages { page: 2 << 20 };
    assert_eq!(errors(&huge), [NumaError::BesideHugePages]);
}

#[test]
fn the_host_has_what_is_asked_of_its_nodes() {
    let there = |id, total| Node { id, cpus: IdList::default(), free: 0, total };
    let host = [there(0, 4 * GIB), there(2, 2 * GIB)];
    let nodes = [
        node(GIB, &[], Some(2)),
        node(3 * GIB, &[], None),
        node(2 * GIB, &[], Some(2)),
        node(GIB, &[], Some(1)),
    ];
    let expected = [NumaError::NoHostNode(1), NumaError::TooLittle { node: 2, asked: 3 * GIB, has: 2 * GIB }];
    assert_eq!(missing(&nodes, &host), expected);
    assert_eq!(missing(&[node(4 * GIB, &[], Some(0))], &host), []);
}

#[test]
fn nodes_follow_each_other_over_the_hole_below_4_gib() {
    let layout = Layout::new(6 * GIB, &AddressLimits::cpu_only(40)).unwrap();
    let nodes = [node(2 * GIB, &[], None), node(2 * GIB, &[], None), node(2 * GIB, &[], None)];
    let expected = [
        (GuestRange::new(0, 2 * GIB), 0),
        (GuestRange::new(2 * GIB, GIB), 1),
        (GuestRange::new(4 * GIB, GIB), 1),
        (GuestRange::new(5 * GIB, 2 * GIB), 2),
    ];
    assert_eq!(ranges(&nodes, &layout), expected);
}
