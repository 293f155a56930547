//! NUMA nodes of a guest: which of its memory and which of its vCPUs belong together, and on which node of the host that memory is.

use std::collections::{BTreeMap, BTreeSet};

use memory::bytes::{Bytes, MIB};
use memory::residency::Node;
use memory::{Backing, GuestRam, GuestRange, Layout, RamError};
use miette::Diagnostic;
use thiserror::Error;

use crate::problem::{Class, Problems};
use crate::spec::MachineSpec;

/// As many as ACPI's older structures number, and more than guests are given.
const MOST_NODES: usize = 64;
/// A node's memory is a multiple of this: a huge page is never on two.
const GRANULE: u64 = 2 * MIB;

/// A node, by its place in the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NumaNode {
    /// Its share of RAM, in bytes: what follows on that of the nodes before.
    pub memory: u64,
    /// Its vCPUs.
    pub cpus: Vec<u32>,
    /// The node of the host that its memory is on. `None`: wherever the host puts it.
    pub host_node: Option<u32>,
}

/// Nodes that make no sense, or that this host cannot have.
#[derive(Debug, Error, Diagnostic, PartialEq, Eq)]
pub enum NumaError {
    /// More than can be told.
    #[error("{0} times --numa: a guest has {MOST_NODES} nodes at the most")]
    #[diagnostic(help("give fewer nodes, with more in each"))]
    TooMany(usize),
    /// Nothing, or a part of a huge page.
    #[error("--numa memory={size}: not a multiple of {}", Bytes(GRANULE))]
    #[diagnostic(help("give each node whole MiB or GiB, as in memory=2G"))]
    Uneven {
        /// Bytes.
        size: u64,
    },
    /// Memory without a node, or the other way round.
    #[error("all --numa together have {} of memory, the machine has {}", Bytes(*nodes), Bytes(*machine))]
    #[diagnostic(help("let the `memory` of all nodes add up to --memory"))]
    Memory {
        /// Of all nodes.
        nodes: u64,
        /// RAM.
        machine: u64,
    },
    /// A vCPU in two places.
    #[error("--numa cpus: vCPU {0} is on two nodes")]
    #[diagnostic(help("name each vCPU once"))]
    Twice(u32),
    /// No such vCPU.
    #[error("--numa cpus: there is no vCPU {cpu}, the machine has {cpus}")]
    #[diagnostic(help("vCPUs are numbered from 0 on; raise --cpus, or name those that there are"))]
    NoCpu {
        /// Named.
        cpu: u32,
        /// How many there are.
        cpus: u32,
    },
    /// vCPUs without a node.
    #[error("vCPU {0} is on none of the nodes of --numa")]
    #[diagnostic(help("name each vCPU once; a node may have none"))]
    Homeless(u32),
    /// A pool's pages are promised for all nodes together.
    #[error("host-node and huge pages cannot be had together")]
    #[diagnostic(help(
        "pages of a pool are promised wherever they are, and a guest dies where its node has none left: leave out `host-node` or --hugepages"
    ))]
    BesideHugePages,
    /// No such node of the host.
    #[error("--numa host-node={0}: the host has no such node, or not for vmm")]
    #[diagnostic(help(
        "/sys/devices/system/node/has_memory lists nodes, and a cpuset may keep vmm off some"
    ))]
    NoHostNode(u32),
    /// It has too little.
    #[error("--numa host-node={node}: {} of guest memory is to be there, the node has {}", Bytes(*asked), Bytes(*has))]
    #[diagnostic(help("choose another node, or give this one less"))]
    TooLittle {
        /// Of the host.
        node: u32,
        /// Bytes.
        asked: u64,
        /// Bytes.
        has: u64,
    },
}

/// What is wrong with the nodes of a machine whatever the host.
pub(crate) fn validate(spec: &MachineSpec, problems: &mut Problems) {
    errors(spec).into_iter().for_each(|error| problems.add(Class::Usage, error));
}

fn errors(MachineSpec { numa, cpus, memory, backing, .. }: &MachineSpec) -> Vec<NumaError> {
    let mut errors = Vec::new();
    if numa.is_empty() {
        return errors;
    }
    if numa.len() > MOST_NODES {
        errors.push(NumaError::TooMany(numa.len()));
    }
    let uneven = numa.iter().filter(|node| node.memory == 0 || !node.memory.is_multiple_of(GRANULE));
    errors.extend(uneven.map(|node| NumaError::Uneven { size: node.memory }));
    let nodes = numa.iter().fold(0_u64, |sum, node| sum.saturating_add(node.memory));
    if nodes != *memory {
        errors.push(NumaError::Memory { nodes, machine: *memory });
    }
    let mut named = BTreeSet::new();
    for &cpu in numa.iter().flat_map(|node| &node.cpus) {
        if cpu >= *cpus {
            errors.push(NumaError::NoCpu { cpu, cpus: *cpus });
        } else if !named.insert(cpu) {
            errors.push(NumaError::Twice(cpu));
        }
    }
    // Named once is enough to know what to do.
    errors.extend((0..*cpus).find(|cpu| !named.contains(cpu)).map(NumaError::Homeless));
    if *backing != Backing::Pages && numa.iter().any(|node| node.host_node.is_some()) {
        errors.push(NumaError::BesideHugePages);
    }
    errors
}

/// What the host does not have of what is asked for.
pub(crate) fn check(nodes: &[NumaNode], problems: &mut Problems) {
    if nodes.iter().any(|node| node.host_node.is_some()) {
        let errors = missing(nodes, &Node::allowed());
        errors.into_iter().for_each(|error| problems.add(Class::Host, error));
    }
}

fn missing(nodes: &[NumaNode], host: &[Node]) -> Vec<NumaError> {
    let mut wanted = BTreeMap::<u32, u64>::new();
    for (node, memory) in nodes.iter().filter_map(|node| Some((node.host_node?, node.memory))) {
        let sum = wanted.entry(node).or_default();
        *sum = sum.saturating_add(memory);
    }
    let lacks = |(node, asked): (u32, u64)| match host.iter().find(|there| there.id == node) {
        None => Some(NumaError::NoHostNode(node)),
        Some(there) => {
            (there.total < asked).then_some(NumaError::TooLittle { node, asked, has: there.total })
        }
    };
    wanted.into_iter().filter_map(lacks).collect()
}

/// Where the memory of each node lies: in the order of the nodes, in that of addresses.
pub(crate) fn ranges(nodes: &[NumaNode], layout: &Layout) -> Vec<(GuestRange, usize)> {
    let mut ranges = Vec::new();
    let mut left = layout.ram.iter().copied();
    let mut region = left.next();
    for (number, node) in nodes.iter().enumerate() {
        let mut wanted = node.memory;
        while let Some(GuestRange { start, size }) = region.filter(|_| wanted > 0) {
            let taken = size.min(wanted);
            ranges.push((GuestRange::new(start, taken), number));
            wanted -= taken;
            region =
                if taken < size { Some(GuestRange::new(start + taken, size - taken)) } else { left.next() };
        }
    }
    ranges
}

/// Binds RAM to the nodes of the host that it is to be on.
pub(crate) fn bind(nodes: &[NumaNode], layout: &Layout, ram: &mut GuestRam) -> Result<(), RamError> {
    ranges(nodes, layout).into_iter().try_for_each(|(range, number)| {
        let host = nodes.get(number).and_then(|node| node.host_node);
        host.map_or(Ok(()), |host| ram.bind(range, host))
    })
}

#[cfg(test)]
#[path = "numa_test.rs"]
mod tests;
