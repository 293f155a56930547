//! Devices change hands: what is listed of them, `vmm bind` and `vmm unbind`, killed at any point, and what they refuse.

use super::extra::OPENS;
use crate::host::{HostSpec, NIC, NVME};
use crate::suite::{Case, Ctx, Failure, Output, POWERS_OFF, QUIET, SAYS_READY, TestResult, case, ensure};

/// Behind a bridge without ACS both are one group; `edu` has no driver.
const GROUP: &str =
    "-device pcie-pci-bridge,id=br,addr=5 -device e1000,bus=br,addr=1,romfile= -device edu,bus=br,addr=2";

pub(super) fn host() -> HostSpec {
    HostSpec::default().one_cpu().unbound().qemu(GROUP)
}

pub(super) fn all() -> Vec<Case> {
    vec![
        case("binding/devices are listed as they are", host(), listed),
        case("binding/former drivers come back and work", host(), there_and_back),
        case("binding/killed at any point, either way leads on", host(), killed),
        case("binding/a device in use is refused, by all that use it", host(), in_use),
        case("binding/a group is taken and given back as a whole", host(), group),
        case("binding/a machine's device is not taken from it", host(), held),
        case("binding/what is bound by hand is given back too", host(), by_hand),
    ]
}

/// Where the second device is that shares a group, and the first.
pub(super) fn group_members(ctx: &Ctx) -> TestResult<(String, String)> {
    let bus = ctx.run("basename $(ls -d /sys/bus/pci/devices/0000:00:05.0/0000:*:01.0)").expect_success()?;
    let first = bus.stdout.trim().to_owned();
    let second = first.replace(":01.0", ":02.0");
    Ok((first, second))
}

fn driver(ctx: &Ctx, address: &str) -> TestResult<String> {
    let link =
        ctx.run(&format!("basename \"$(readlink /sys/bus/pci/devices/{address}/driver)\"")).output()?;
    Ok(link.stdout.trim().to_owned())
}

/// The host's own drivers have both devices, and nothing is left of a binding.
fn is_as_before(ctx: &Ctx) -> TestResult {
    for (address, name) in [(NVME, "nvme"), (NIC, "e1000e")] {
        let driver = driver(ctx, address)?;
        ensure!(driver == name, "{address} is bound to `{driver}`, not to {name}");
        ctx.run(&format!("cat /sys/bus/pci/devices/{address}/driver_override"))
            .expect_success()?
            .stdout_contains("(null)")?;
    }
    let records = ctx.run("ls /run/vmm/bind").expect_success()?;
    ensure!(records.stdout.trim() == "lock", "records are left: {}", records.stdout);
    Ok(())
}

/// The NVMe is read right by the host's driver, which finds the disk in its own time.
fn nvme_works(ctx: &Ctx) -> TestResult {
    let command = format!("{OPENS} opens /dev/nvme0n1; dd if=/dev/nvme0n1 bs=1M count=1 | sha256sum");
    ctx.run(&command).expect_success()?.stdout_contains(&ctx.artefacts.disk.sha256(1 << 20)?)?;
    Ok(())
}

/// The name of the NIC's interface.
fn interface(ctx: &Ctx) -> TestResult<String> {
    let net = format!("/sys/bus/pci/devices/{NIC}/net");
    let name =
        ctx.run(&format!("until ls {net}/ 2>/dev/null | grep .; do usleep 50000; done")).expect_success()?;
    Ok(name.stdout.trim().to_owned())
}

fn nic_works(ctx: &Ctx) -> TestResult {
    let name = interface(ctx)?;
    let lease =
        format!("ip link set {name} up && udhcpc -i {name} -n -q -s /bin/true && ip link set {name} down");
    ctx.run(&lease).expect_success()?.stderr_contains("lease of 10.0.2.15 obtained")?;
    Ok(())
}

/// What `vmm devices` says in the end of a device.
fn verdict(ctx: &Ctx, address: &str) -> TestResult<String> {
    let table = ctx.run("vmm devices").expect_success()?;
    Ok(cells(table.line_with(address)?).pop().unwrap_or_default().to_owned())
}

fn cells(row: &str) -> Vec<&str> {
    row.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect()
}

fn bind(ctx: &Ctx, arguments: &str) -> TestResult<Output> {
    ctx.run(&format!("vmm bind {arguments}")).expect_success()
}

fn unbind(ctx: &Ctx, arguments: &str) -> TestResult<Output> {
    ctx.run(&format!("vmm unbind {arguments}")).expect_success()
}

fn listed(ctx: &Ctx) -> TestResult {
    let (first, second) = group_members(ctx)?;
    let table = ctx.run("vmm devices").expect_success()?;
    let nvme = cells(table.line_with(NVME)?);
    let [_, name, driver, _, node, reset, bars, verdict] = nvme[..] else {
        return Err(Failure::new(format!("{nvme:?}")));
    };
    ensure!((name, driver) == ("NVMe controller: 1b36:0010", "nvme"), "{nvme:?}");
    ensure!((node, reset, bars, verdict) == ("-", "flr", "16K", "after vmm bind"), "{nvme:?}");
    for (address, verdict) in [(&first, "  after vmm bind"), (&second, "  after vmm bind --group")] {
        ensure!(table.line_with(address)?.ends_with(verdict), "{}", table.line_with(address)?);
    }
    table.stdout_lacks("bridge")?;
    let all = ctx.run("vmm devices --all").expect_success()?;
    ensure!(all.line_with("0000:00:05.0")?.ends_with("  no: a bridge"), "{}", all.stdout);

    let detail = ctx.run(&format!("vmm devices {second}")).expect_success()?;
    detail.stdout_contains(&format!("{first} (e1000)"))?.stdout_contains(&format!("vmm bind {second}"))?;
    ctx.run("vmm devices 0000:7f:00.0")
        .expect_status(3)?
        .stderr_contains("there is no PCI device 0000:7f:00.0")?;

    let json = ctx.run("vmm devices --json").expect_success()?;
    let json: serde_json::Value = serde_json::from_str(&json.stdout)?;
    let at = |value: &serde_json::Value, path: &str| value.pointer(path).cloned().unwrap_or_default();
    ensure!(at(&json, "/schema") == "vmm-devices/1", "{}", at(&json, "/schema"));
    let listed = at(&json, "/devices").as_array().cloned().unwrap_or_default();
    let of = |address: &str| {
        let found = listed.iter().find(|device| at(device, "/address") == address);
        found.ok_or_else(|| Failure::new(format!("{address} is not listed")))
    };
    let nvme = of(NVME)?;
    for (path, value) in [
        ("/driver", "nvme".into()),
        ("/class", "010802".into()),
        ("/vendor", "1b36".into()),
        ("/bars", serde_json::json!([{ "index": 0, "bytes": 16384 }])),
        ("/reset_methods", serde_json::json!(["flr"])),
        ("/ready", false.into()),
    ] {
        ensure!(at(nvme, path) == value, "{path} is {}, not {value}", at(nvme, path));
    }
    // The bridge above them is one of the group.
    let members = at(of(&first)?, "/iommu_group/members").as_array().map_or(0, Vec::len);
    ensure!(members == 3, "{members} members");
    Ok(())
}

fn there_and_back(ctx: &Ctx) -> TestResult {
    nvme_works(ctx)?;
    let both = format!("{NVME} {NIC}");
    bind(ctx, &both)?
        .stdout_contains(&format!("{NVME}: vfio-pci (was nvme)\n{NIC}: vfio-pci (was e1000e)"))?
        .stdout_lacks("note")?;
    ensure!(verdict(ctx, NVME)? == "ready", "it is not ready but {}", verdict(ctx, NVME)?);
    bind(ctx, &both)?.stdout_contains(&format!("{NVME}: vfio-pci, as before"))?;
    let guest =
        ctx.run(&format!("vmm run {QUIET} --vfio {NVME} --vfio {NIC} --memory 128M")).expect_success()?;
    guest.stdout_contains(&ctx.artefacts.disk.sha256(8 << 20)?)?;
    unbind(ctx, &both)?
        .stdout_contains(&format!("{NVME}: nvme (was vfio-pci)\n{NIC}: e1000e (was vfio-pci)"))?;
    is_as_before(ctx)?;
    nvme_works(ctx)?;
    nic_works(ctx)?;
    unbind(ctx, &both)?.stdout_contains(&format!("{NVME}: nvme, as before"))?;
    is_as_before(ctx)
}

fn killed(ctx: &Ctx) -> TestResult {
    nvme_works(ctx)?;
    let device = format!("/sys/bus/pci/devices/{NVME}");
    // Each is an event on the way; the process may get a little further before it is dead.
    let there = [
        format!("[ -e /run/vmm/bind/{NVME} ]"),
        format!("grep -q vfio-pci {device}/driver_override"),
        format!("[ ! -e {device}/driver ]"),
        format!("readlink {device}/driver | grep -q vfio-pci"),
    ];
    let back = [
        format!("grep -q null {device}/driver_override"),
        format!("[ ! -e {device}/driver ]"),
        format!("readlink {device}/driver | grep -q nvme"),
        format!("[ ! -e /run/vmm/bind/{NVME} ]"),
    ];
    let kill_when = |verb: &str, event: &str| {
        // It may also be through before it is looked.
        let command = format!(
            "vmm {verb} {NVME} & pid=$!; while kill -0 $pid 2>/dev/null && ! {{ {event}; }}; do :; done; \
             kill -9 $pid 2>/dev/null; wait $pid; true"
        );
        ctx.run(&command).expect_success()
    };
    for event in &there {
        kill_when("bind", event)?;
        unbind(ctx, NVME)?;
        is_as_before(ctx)?;
        kill_when("bind", event)?;
        bind(ctx, NVME)?;
        ensure!(driver(ctx, NVME)? == "vfio-pci", "it is not bound");
        unbind(ctx, NVME)?;
        is_as_before(ctx)?;
    }
    for event in &back {
        bind(ctx, NVME)?;
        kill_when("unbind", event)?;
        bind(ctx, NVME)?;
        ensure!(driver(ctx, NVME)? == "vfio-pci", "it is not bound");
        kill_when("unbind", event)?;
        unbind(ctx, NVME)?;
        is_as_before(ctx)?;
    }
    nvme_works(ctx)
}

fn in_use(ctx: &Ctx) -> TestResult {
    nvme_works(ctx)?;
    let name = interface(ctx)?;
    let refused = |arguments: &str, reason: &str| {
        let output = ctx.run(&format!("vmm bind {arguments}")).expect_status(3)?;
        output.stderr_contains(reason)?.stderr_contains("--force")?;
        is_as_before(ctx)
    };
    // What is written is put back: others read the disk.
    let make = "dd if=/dev/nvme0n1 of=/tmp/saved bs=1M count=8 2>/dev/null && mke2fs /dev/nvme0n1 8192";
    ctx.run(make).expect_success()?;
    ctx.run("mkdir /tmp/mounted && mount /dev/nvme0n1 /tmp/mounted").expect_success()?;
    refused(NVME, "0000:00:01.0 is in use by the host: nvme0n1 is mounted on /tmp/mounted")?;
    // With another that is free: neither is touched.
    refused(&format!("{NIC} {NVME}"), "nvme0n1 is mounted")?;
    let verdict = verdict(ctx, NVME)?;
    ensure!(verdict == "in use: nvme0n1 is mounted on /tmp/mounted", "{verdict}");
    ctx.run("umount /tmp/mounted").expect_success()?;
    // Where we do not see it.
    let elsewhere = "exec unshare -m sh -c 'mount /dev/nvme0n1 /tmp/mounted && echo done && exec sleep 1000'";
    let mut elsewhere = ctx.run(elsewhere).start()?;
    elsewhere.wait_for("done")?;
    refused(NVME, "the kernel uses nvme0n1")?;
    elsewhere.kill()?;
    ctx.run("rmdir /tmp/mounted && mkswap /dev/nvme0n1 8192 && swapon /dev/nvme0n1").expect_success()?;
    refused(NVME, "nvme0n1 is swap space")?;
    ctx.run("swapoff /dev/nvme0n1 && dd if=/tmp/saved of=/dev/nvme0n1 bs=1M 2>/dev/null && rm /tmp/saved")
        .expect_success()?;
    let mut reader = ctx.run("exec 3< /dev/nvme0n1; echo open; exec sleep 1000").start()?;
    reader.wait_for("open")?;
    refused(NVME, "/dev/nvme0n1 is open in ")?;
    reader.kill()?;

    ctx.run(&format!("ip link set {name} up && ip addr add 10.0.2.15/24 dev {name}")).expect_success()?;
    let session = "SSH_CONNECTION='10.0.2.2 50000 10.0.2.15 22'";
    let output = ctx
        .run(&format!("{session} sh -c 'env -u SSH_CONNECTION vmm bind {NIC}; exit $?'"))
        .expect_status(3)?;
    output.stderr_contains(&format!("{name} carries this ssh session, from 10.0.2.2"))?;
    ctx.run("ip route add default via 10.0.2.2").expect_success()?;
    refused(NIC, &format!("{name} carries the default route"))?;
    // Taken all the same.
    bind(ctx, &format!("--force {NIC}"))?;
    unbind(ctx, NIC)?;
    is_as_before(ctx)?;

    let board = ctx.run("vmm bind 0000:00:1f.0").expect_status(3)?;
    board.stderr_contains("0000:00:1f.0 is in use by the host: it is a bridge of the board")?;
    let bridge = ctx.run("vmm bind --force 0000:00:05.0").expect_status(3)?;
    bridge.stderr_contains("0000:00:05.0 is a PCI bridge")?;
    let user = ctx.run(&format!("su -s /bin/sh nobody -c 'vmm bind {NVME}'")).expect_status(3)?;
    user.stderr_contains("/run/vmm/bind")?.stderr_contains("binding takes root")?;
    ctx.run("vmm bind nvme0").expect_status(2)?.stderr_contains("is not a PCI address")?;
    ctx.run("vmm bind 0000:7f:00.0")
        .expect_status(3)?
        .stderr_contains("there is no PCI device 0000:7f:00.0")?;
    nvme_works(ctx)
}

fn group(ctx: &Ctx) -> TestResult {
    let (first, second) = group_members(ctx)?;
    // One alone is bound, and it is said what is missing.
    let one = bind(ctx, &second)?;
    one.stderr_contains(&format!("note: {second} shares IOMMU group"))?
        .stderr_contains(&format!("vmm bind --group {second}"))?;
    let run = ctx.run(&format!("vmm run --vfio {second}")).expect_status(3)?;
    run.stderr_contains(&format!("{first} (e1000)"))?;
    bind(ctx, &format!("--group {second}"))?
        .stdout_contains(&format!("{first}: vfio-pci (was e1000)\n{second}: vfio-pci, as before"))?;
    let tiny = ctx.tiny(&POWERS_OFF)?;
    ctx.run(&format!("vmm run {tiny} --vfio {second} --memory 64M")).expect_success()?;
    unbind(ctx, &format!("--group {first}"))?
        .stdout_contains(&format!("{first}: e1000 (was vfio-pci)\n{second}: no driver (was vfio-pci)"))?;
    is_as_before(ctx)
}

fn held(ctx: &Ctx) -> TestResult {
    bind(ctx, NVME)?;
    let tiny = ctx.tiny(&SAYS_READY)?;
    let mut guest = ctx.run(&format!("vmm run {tiny} --vfio {NVME} --memory 64M --grace 0")).start()?;
    guest.wait_for("ready")?;
    let refused = ctx.run(&format!("vmm unbind {NVME}")).expect_status(3)?;
    refused.stderr_contains("0000:00:01.0 is passed through: ")?.stderr_contains(" is open in vmm (pid ")?;
    let verdict = verdict(ctx, NVME)?;
    ensure!(verdict.starts_with("in use by vmm (pid "), "{verdict}");
    ctx.run("kill -TERM $(pidof vmm)").expect_success()?;
    let guest = guest.finish()?;
    ensure!(guest.status == 0, "the guest ended with status {}", guest.status);
    unbind(ctx, NVME)?;
    is_as_before(ctx)
}

fn by_hand(ctx: &Ctx) -> TestResult {
    let device = format!("/sys/bus/pci/devices/{NVME}");
    ctx.run(&format!(
        "echo vfio-pci > {device}/driver_override; echo {NVME} > {device}/driver/unbind; \
         echo {NVME} > /sys/bus/pci/drivers_probe"
    ))
    .expect_success()?;
    bind(ctx, NVME)?.stdout_contains(&format!("{NVME}: vfio-pci, as before"))?;
    unbind(ctx, NVME)?.stdout_contains(&format!("{NVME}: nvme (was vfio-pci)"))?;
    is_as_before(ctx)?;
    // Its driver was taken off, and nothing else done.
    ctx.run(&format!("echo {NVME} > {device}/driver/unbind")).expect_success()?;
    unbind(ctx, NVME)?.stdout_contains(&format!("{NVME}: nvme (was no driver)"))?;
    is_as_before(ctx)
}
