//! Guest memory on a host with two NUMA nodes.

use crate::host::{HostSpec, NVME};
use crate::suite::{Case, Ctx, GuestInitrd, QUIET, SAYS_READY, TestResult, case, ensure};

/// Nodes with a CPU for commands each, and half of the memory. The first has the host's first CPU too.
const NODES: &str = "-object memory-backend-ram,id=m0,size=1536M -object memory-backend-ram,id=m1,size=1536M \
                     -numa node,cpus=0-1,memdev=m0 -numa node,cpus=2,memdev=m1";

pub(super) fn all() -> Vec<Case> {
    let host = || HostSpec::default().small_pages().append("cma=300M").qemu(NODES);
    vec![
        case("numa/memory is spread over the nodes as the report says", host(), spread),
        case("numa/memory stays on the node whose CPUs it is given", host(), confined),
        case(
            "numa/a guest has the nodes that it was asked to have, on nodes of the host",
            host(),
            nodes_of_its_own,
        ),
    ]
}

/// Pages of the guest's memory on nodes 0 and 1.
fn pages(ctx: &Ctx) -> TestResult<(u64, u64)> {
    let maps =
        ctx.run("cat /proc/$(pidof vmm | tr ' ' '\\n' | sort -n | head -n 1)/numa_maps").expect_success()?;
    let of = |node: &str| {
        let lines = maps.stdout.lines().filter(|line| line.contains("memfd:guest-ram"));
        let counts = lines.flat_map(str::split_whitespace).filter_map(|word| word.strip_prefix(node));
        counts.filter_map(|count| count.parse::<u64>().ok()).sum()
    };
    Ok((of("N0="), of("N1=")))
}

fn spread(ctx: &Ctx) -> TestResult {
    let tiny = ctx.tiny(&SAYS_READY)?;
    let command = format!("vmm run {tiny} --vfio {NVME} --memory 256M --grace 0 --report /tmp/numa.json");
    let mut guest = ctx.run(&command).start()?;
    guest.wait_for("ready")?;
    let (first, second) = pages(ctx)?;
    ctx.run("kill -TERM $(pidof vmm)").expect_success()?;
    let guest = guest.finish()?;
    ensure!(guest.status == 0, "the guest ended with status {}", guest.status);
    guest.stderr_contains(": 65536 pages, 0 in CMA, 0 in ZONE_MOVABLE, 0 migrated, ")?;
    let report: serde_json::Value = serde_json::from_slice(&ctx.get("/tmp/numa.json")?)?;
    let field = |it: &serde_json::Value, name| it.get(name).and_then(serde_json::Value::as_u64);
    let planned = |node: u64| {
        let nodes = report.pointer("/pinned/nodes").and_then(|nodes| nodes.as_array()).into_iter().flatten();
        let bytes = nodes.filter(|it| field(it, "node") == Some(node)).filter_map(|it| field(it, "bytes"));
        bytes.sum::<u64>() / 4096
    };
    ensure!(first + second == 65_536, "{first} pages are on node 0 and {second} on node 1");
    ensure!(planned(0) > 0 && planned(1) > 0, "both nodes have room: {report}");
    ensure!(
        (first, second) == (planned(0), planned(1)),
        "{first} and {second} pages are on the nodes, {} and {} were to be",
        planned(0),
        planned(1)
    );
    Ok(())
}

fn confined(ctx: &Ctx) -> TestResult {
    let tiny = ctx.tiny(&SAYS_READY)?;
    let command = format!("exec taskset 4 vmm run {tiny} --vfio {NVME} --memory 128M --grace 0");
    let mut guest = ctx.run(&command).start()?;
    guest.wait_for("ready")?;
    let (first, second) = pages(ctx)?;
    ctx.run("kill -TERM $(pidof vmm)").expect_success()?;
    let guest = guest.finish()?;
    ensure!(guest.status == 0, "the guest ended with status {}", guest.status);
    ensure!((first, second) == (0, 32_768), "{first} pages are on node 0 and {second} on node 1");
    Ok(())
}

/// The guest runs the kernel of hosts: that of guests knows one node.
fn nodes_of_its_own(ctx: &Ctx) -> TestResult {
    let bad = ctx
        .run("vmm run --cpus 2 --numa memory=128M,cpus=0,host-node=7 --numa memory=128M,cpus=2")
        .output()?;
    ensure!(bad.status == 2, "it ended with status {}", bad.status);
    bad.stderr_contains("error: all --numa together have 256 MiB of memory, the machine has 512 MiB")?;
    bad.stderr_contains("error: --numa cpus: there is no vCPU 2, the machine has 2")?;
    bad.stderr_contains("error: vCPU 1 is on none of the nodes of --numa")?;
    bad.stderr_contains("error: --numa host-node=7: the host has no such node")?;

    let script = "cd /sys/devices/system/node; for node in node*; do echo $node cpus $(cat $node/cpulist) distances $(cat $node/distance) \
                  kib $(grep -o 'MemTotal:.*' $node/meminfo); done; echo all nodes; read what; poweroff -f";
    ctx.put("/tmp/numa.cpio", &GuestInitrd::with_script(ctx.artefacts, script)?.build()?)?;
    ctx.put_host_kernel("/tmp/vmlinux")?;
    // Pages of the first node are on the host's second one, though vmm may run on the first one's CPU only.
    let command = format!(
        "exec taskset 2 vmm run {QUIET} --vfio {NVME} --kernel /tmp/vmlinux --initrd /tmp/numa.cpio --memory 256M --cpus 2 \
         --numa memory=96M,cpus=1,host-node=1 --numa memory=160M,cpus=0,host-node=0"
    );
    let mut guest = ctx.run(&command).deadline(200).start()?;
    guest.wait_for("all nodes")?;
    let (first, second) = pages(ctx)?;
    guest.send("go\n");
    let guest = guest.finish()?;
    ensure!(guest.status == 0, "the guest ended with status {}", guest.status);
    guest.stdout_contains("node0 cpus 1 distances 10 20 kib")?;
    guest.stdout_contains("node1 cpus 0 distances 20 10 kib")?;
    ensure!(
        (first, second) == (40_960, 24_576),
        "{first} pages are on node 0 of the host and {second} on node 1, not 40960 and 24576"
    );
    guest.stderr_contains(": 65536 pages, 0 in CMA, 0 in ZONE_MOVABLE, 0 migrated, ")?;
    ctx.run("rm /tmp/numa.cpio /tmp/vmlinux").expect_success()?;
    Ok(())
}
