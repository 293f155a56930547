//! The host's clock is set by a day, forward and back, while a guest runs whose devices measure time: they go on at their pace.

use crate::suite::{Ctx, GuestInitrd, QUIET, TestResult, ensure};

const SOCKET: &str = "/tmp/clock.sock";
const DAY: i64 = 86_400;
/// What the guest reads at a time, in seconds at the disk's limit of 128 KiB a second, of which 64 KiB come at once.
const LEAST: u64 = 2;
const MOST: u64 = 30;

/// It reloads its watchdog each second, and has ten. `day` is the day of the month, by the CMOS clock.
const SCRIPT: &str = r"
    watchdog -t 1 -T 10 /dev/watchdog
    day() { printf '\7' | dd of=/dev/port bs=1 seek=112 conv=notrunc 2>/dev/null
            dd if=/dev/port bs=1 skip=113 count=1 2>/dev/null | od -An -tx1; }
    up() { cut -d. -f1 /proc/uptime; }
    echo ready; while read -r word && [ $word = read ]; do
        begin=$(up); echo reads at the limit
        dd if=/dev/vda of=/dev/null bs=64k count=8 iflag=direct 2>/dev/null && echo took $(($(up) - begin))
        echo today $(day)
    done; poweroff -f";

pub(super) fn jumps(ctx: &Ctx) -> TestResult {
    ctx.put("/tmp/guest.cpio", &GuestInitrd::with_script(ctx.artefacts, SCRIPT)?.build()?)?;
    ctx.run("truncate -s 1M /tmp/clock.img").expect_success()?;
    let command = format!(
        "vmm run {QUIET} --memory 128M --initrd /tmp/guest.cpio --api-socket {SOCKET} --watchdog stop \
         --balloon 0,statistics=500ms --disk /tmp/clock.img,rate.bytes=128K,rate.bytes-burst=64K"
    );
    let mut guest = ctx.run(&command).deadline(240).start()?;
    guest.wait_for("ready")?;
    let ctl = format!("vmm ctl -s {SOCKET} --timeout 5s");
    let age = format!("{ctl} metrics | grep ^vmm_balloon_statistics_age_seconds");
    for seconds in [DAY, -2 * DAY, DAY] {
        guest.send("read\n");
        guest.wait_for("reads at the limit")?;
        ctx.run(&format!("date -s @$(($(date +%s) + {seconds}))")).expect_success()?;
        ctx.run(&format!("{ctl} pause && {ctl} resume && {ctl} info")).expect_success()?;
        let took: u64 = guest.word_after("took ")?.parse().unwrap_or_default();
        ensure!((LEAST..MOST).contains(&took), "reading took {took} s");
        let day = guest.word_after("today ")?;
        let host = ctx.run("date -u +%d").expect_success()?.stdout;
        ensure!(day == host.trim(), "it is day {day}, and {} for the host", host.trim());
        // The guest is asked at the pace that it was.
        let said = ctx.run(&format!("until {age}; do usleep 100000; done")).expect_success()?;
        let seconds: f64 =
            said.stdout.split_whitespace().nth(1).and_then(|age| age.parse().ok()).unwrap_or(-1.0);
        ensure!((0.0..30.0).contains(&seconds), "statistics are {seconds} s old");
    }
    guest.send("end\n");
    let guest = guest.finish()?;
    ensure!(guest.status == 0, "it ended with status {}", guest.status);
    ensure!(guest.stderr == "vmm: the guest powered off\n", "standard error is {:?}", guest.stderr);
    ctx.run("rm /tmp/clock.img /tmp/guest.cpio").expect_success()?;
    Ok(())
}
