//! Machines with a device of each kind, started and stopped again and again, each by a process of its own and all by one: neither the
//! host nor the process has more of anything afterwards. Their guests run a few instructions.

use crate::host::{HostSpec, NVME};
use crate::suite::{Case, Ctx, Failure, POWERS_OFF, TestResult, case, ensure, tiny_kernel};

pub(super) fn all() -> Vec<Case> {
    let host = HostSpec::default;
    vec![
        case("soak/5 starts and stops leave nothing behind", host(), |ctx| cycles(ctx, 5)),
        case("long/500 starts and stops leave nothing behind", host(), |ctx| cycles(ctx, 500)),
    ]
}

const PLACE: &str = "/tmp/cycles";
/// Rounds until all that is made once is there.
const WARM_UP: u32 = 2;
/// How often it is looked, at most.
const LOOKS: u32 = 10;
/// How much less memory the host may have available in the end, and how much larger its slabs may be, in KiB: it has other
/// things to do. 500 rounds that lost 40 KiB each would show.
const HOST_SLACK: u64 = 20 << 10;
/// How much the process may grow, in KiB.
const PROCESS_SLACK: u64 = 512;

/// Shell: what of the host a machine could leave behind.
const HOST: &str = "host() {
    echo 1 > /proc/sys/vm/stat_refresh
    echo \"pins $(awk '/^nr_foll_pin_acquired/ {a = $2} /^nr_foll_pin_released/ {r = $2} END {print a - r}' /proc/vmstat)\"
    echo \"machines $(pidof vmm vmm-pin-helper | wc -w)\"
    echo \"mounts $(wc -l < /proc/mounts) interfaces $(ls /sys/class/net | wc -l) terminals $(cat /proc/sys/kernel/pty/nr)\"
    grep -h Total /sys/kernel/debug/dma_buf/bufinfo; ls /tmp/cycles /run/vmm | tr '\\n' ' '; echo
}
spare() { awk '/^MemAvailable/ {a = $2} /^Slab:/ {s = $2} END {print \"spare\", a, s}' /proc/meminfo; }";

/// Shell: what process `$vmm` has.
const PROCESS: &str = "process() {
    for f in /proc/$vmm/fd/*; do readlink $f; done | sed 's/[0-9]\\+//g' | sort | uniq -c
    echo \"threads $(ls /proc/$vmm/task | wc -l) maps of devices $(grep -c vfio /proc/$vmm/maps)\"
}
size() { echo \"spare $(awk '/^RssAnon/ {print $2}' /proc/$vmm/status) $(wc -l < /proc/$vmm/maps)\"; }";

fn cycles(ctx: &Ctx, rounds: u32) -> TestResult {
    ctx.run(&format!("mkdir -p {PLACE} /run/vmm; truncate -s 1M {PLACE}/disk")).expect_success()?;
    ctx.put(&format!("{PLACE}/off"), &tiny_kernel(&POWERS_OFF))?;
    ctx.put(&format!("{PLACE}/halt"), &tiny_kernel(&[0xf4, 0xeb, 0xfd]))?;
    processes(ctx, rounds)?;
    one_process(ctx, rounds)?;
    ctx.run(&format!("rm -r {PLACE}")).expect_success()?;
    Ok(())
}

/// Each machine is a process.
fn processes(ctx: &Ctx, rounds: u32) -> TestResult {
    let start = format!(
        "vmm run --initrd none --memory 16M --kernel {PLACE}/off --vfio {NVME},backend=$backend --disk {PLACE}/disk --net cycles0,create \
         --rng --vsock socket={PLACE}/vsock --console pty={PLACE}/hvc --api-socket {PLACE}/api"
    );
    let round = format!(
        "backend=iommufd; [ $((n % 2)) = 0 ] && backend=container; {start} < /dev/null 2>&1 || exit 1"
    );
    let samples = sampled(ctx, rounds, HOST, &round, "host; spare", "")?;
    let [first, last] = flat(&samples)?;
    println!("{rounds} processes: KiB available and in slabs {first:?}, then {last:?}");
    ensure!(
        last.0 + HOST_SLACK >= first.0 && last.1 <= first.1 + HOST_SLACK,
        "the host has (KiB available, in slabs) {first:?} and later {last:?}"
    );
    Ok(())
}

/// One process has all of them.
fn one_process(ctx: &Ctx, rounds: u32) -> TestResult {
    let tap = ctx.program("tap")?;
    let machine = format!(
        r#"{{"payload":{{"kernel":"{PLACE}/halt"}},"memory":{{"size":16777216}},"serial":{{"mode":"Null"}},
            "devices":[{{"path":"/sys/bus/pci/devices/{NVME}"}}],"disks":[{{"path":"{PLACE}/disk"}}],"net":[{{"tap":"cycles1"}}],
            "rng":{{"src":"/dev/urandom"}},"vsock":{{"cid":3,"socket":"{PLACE}/vsock"}},"console":{{"mode":"Socket","socket":"{PLACE}/hvc"}}}}"#
    );
    ctx.put(&format!("{PLACE}/vm.json"), machine.as_bytes())?;
    let before = format!(
        "{PROCESS}\n{tap} cycles1; vmm --api-socket {PLACE}/api 2>{PLACE}/log & vmm=$!; until [ -S {PLACE}/api ]; do usleep 10000; done
         ctl() {{ vmm ctl -s {PLACE}/api \"$@\" > {PLACE}/said 2>&1 || {{ cat {PLACE}/said {PLACE}/log; exit 1; }}; }}"
    );
    let round = format!("ctl create {PLACE}/vm.json; ctl boot; ctl shutdown; ctl delete");
    let samples = sampled(
        ctx,
        rounds,
        &before,
        &round,
        "process; size",
        "ctl shutdown-vmm; wait $vmm; ip link del cycles1",
    )?;
    let [first, last] = flat(&samples)?;
    println!(
        "{rounds} machines of one process: KiB of its own and maps {first:?}, then {last:?}; each time:\n{}",
        samples.first().map_or("", String::as_str)
    );
    ensure!(
        last.0 <= first.0 + PROCESS_SLACK && last.1 <= first.1 + 2,
        "the process has (KiB of its own, maps) {first:?} and later {last:?}"
    );
    Ok(())
}

/// Shell: `round` so often, and what `look` says after the warm-up and then now and then until the end.
fn sampled(
    ctx: &Ctx,
    rounds: u32,
    before: &str,
    round: &str,
    look: &str,
    after: &str,
) -> TestResult<Vec<String>> {
    let every = (rounds / LOOKS).max(1);
    let script = format!(
        "{before}\nfor n in $(seq {}); do\n{round}\n[ $n -ge {WARM_UP} ] && [ $(((n - {WARM_UP}) % {every})) = 0 ] && {{ echo @; {look}; }}\n\
         done\n{after}\n:",
        rounds + WARM_UP
    );
    let output = ctx.run(&script).deadline(1800).expect_success()?;
    // Before the first is what machines said of themselves.
    let samples = output.stdout.split("@\n").skip(1);
    let samples = samples
        .map(|sample| sample.lines().filter(|line| !line.contains("pinned ") && !line.starts_with("vmm: ")));
    let samples: Vec<String> = samples.map(|lines| lines.collect::<Vec<_>>().join("\n")).collect();
    let expected = rounds / every + 1;
    ensure!(samples.len() == expected as usize, "it was looked {} times, not {expected}", samples.len());
    Ok(samples)
}

/// All samples are the same but for the two figures behind `spare`, of which the first and the last pair is given.
fn flat(samples: &[String]) -> TestResult<[(u64, u64); 2]> {
    let split = |sample: &String| -> TestResult<(String, (u64, u64))> {
        let (counts, figures) =
            sample.split_once("spare ").ok_or_else(|| Failure::new(format!("no figures in {sample}")))?;
        let mut figures = figures.split_whitespace().map(str::parse);
        match (figures.next(), figures.next()) {
            (Some(one), Some(other)) => Ok((counts.to_owned(), (one?, other?))),
            _ => Err(Failure::new(format!("no two figures in {sample}"))),
        }
    };
    let [first, .., last] = samples else { return Err(Failure::new("there are no two samples")) };
    let (counts, first) = split(first)?;
    for sample in samples {
        let (now, _) = split(sample)?;
        ensure!(now == counts, "there is\n{now}\ninstead of\n{counts}");
    }
    Ok([first, split(last)?.1])
}
