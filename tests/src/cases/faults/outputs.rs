//! Whoever takes what vmm and its guest say: gone, full, or not reading.

use super::fault::Fault;
use super::verdict::Survival;
use super::{PLACE, Scale, bare, with_drive};

/// Makes a file system without room at `$full`.
const BEFORE: &str = "full=$place/full; mkdir $full; mount -t tmpfs -o size=16k none $full; dd if=/dev/zero of=$full/fill bs=4k 2>/dev/null";
const AFTER: &str = "umount $full; rm -r $full";
/// Shell: makes a pipe at `$pipe` that is full, but for less than a line, and that nobody reads.
const FILL: &str = "pipe=$place/pipe; rm -f $pipe; mkfifo $pipe; exec 8<>$pipe; dd if=/dev/zero of=$pipe bs=65530 count=1 2>/dev/null";

/// Shell: waits until the guest of the start in the background runs.
const RUNS: &str =
    "until grep -q '\"running\"' $place/events 2>/dev/null || ! [ -e /proc/$!/exe ]; do usleep 20000; done";

/// Shell: the terminal's other end goes. `ticks` is the CPU time that `$vmm` took.
const GONE: &str = "vmm=$(pidof vmm | tr ' ' '\\n' | grep -vx $other)
    ticks() { awk '{print $14 + $15}' /proc/$vmm/stat; }
    kill -9 $other; wait $other; usleep 200000";

pub(super) fn all(_: Scale) -> Vec<Fault> {
    let off = with_drive("off");
    let loud = format!("$patient vmm -vvv {off}");
    let fault = |name, attempts: Vec<String>| {
        let arms: Vec<String> =
            attempts.iter().enumerate().map(|(n, attempt)| format!("{n}) {attempt};;")).collect();
        Fault {
            name,
            before: format!("place={PLACE}; {BEFORE}"),
            attempt: format!("case $n in {} esac", arms.join("\n")),
            after: AFTER.to_owned(),
            points: (0..attempts.len() as u64).collect(),
            codes: &[],
            shows: &[Survival::WentOn],
        }
    };
    // A guest that never ends, and is asked to once it runs: vmm must heed that. The shell itself must not write to what is full.
    let asked = |flags: &str, to: &str| {
        format!(
            "rm -f $place/events; $patient vmm {flags} --events $place/events {to} &
             {RUNS}; usleep 200000; kill -TERM $(pidof vmm); wait $!"
        )
    };
    // Its terminal is the console of another machine: vmm holds the other end.
    let on_terminal = |kernel: &str, session: &str| {
        format!(
            "rm -f $place/events $place/tty; vmm {} --console pty=$place/tty > /dev/null 2>&1 & other=$!
             until [ -e $place/tty ]; do usleep 20000; done
             $patient {session} vmm {} --events $place/events < $place/tty > $place/tty & {RUNS}; usleep 200000",
            bare("halt"),
            with_drive(kernel)
        )
    };
    let chat = |to: &str| asked(&with_drive("chat"), to);
    vec![
        fault(
            "standard error is full, gone or closed",
            vec![
                format!("{loud} 2> /dev/full"),
                format!("{loud} 2> $full/log"),
                format!("{loud} 2>&-"),
                format!("{{ {loud} 2>&1 > /dev/null; echo $? > $place/status; }} | : ; exit $(cat $place/status)"),
                format!("vmm --log-format json -vvv {off} 2> /dev/full"),
                "vmm run --kernel /none 2> /dev/full; [ $? = 2 ]".to_owned(),
            ],
        ),
        fault(
            "standard error is a pipe that nobody reads",
            vec![
                format!("{FILL}; {}", asked(&bare("reset"), "2> $pipe")),
                format!("{FILL}; {loud} 2> $pipe & wait $!"),
            ],
        ),
        fault(
            "the console is full, gone or closed",
            vec![
                chat("> /dev/full"),
                chat("> $full/console"),
                chat(">&-"),
                format!("{{ {}; echo $? > $place/status; }} | : ; exit $(cat $place/status)", chat("")),
                format!("{loud} <&-"),
            ],
        ),
        fault(
            "the console is a pipe that nobody reads, and the API answers",
            vec![format!(
                "{FILL}; rm -f $place/events; $patient vmm {} --api-socket $place/api --events $place/events > $pipe & {RUNS}; usleep 200000
                 ctl=\"$patient vmm ctl -s $place/api\"; $ctl info > /dev/null || exit 1
                 $ctl --timeout 1s pause 2> /dev/null && exit 1; $ctl info > /dev/null && $ctl shutdown-vmm && wait $!",
                with_drive("chat")
            )],
        ),
        fault(
            "the console is a terminal that vanishes",
            vec![
                format!("{}; {GONE}; kill -TERM $vmm; wait $!", on_terminal("chat", "")),
                // Nor does it look at the terminal for ever.
                format!("{}; {GONE}; a=$(ticks); sleep 1; [ $(($(ticks) - a)) -lt 20 ] || exit 1; kill -TERM $vmm; wait $!", on_terminal("halt", "")),
                // It is its session's, so it is told (SIGHUP).
                format!("{}; {GONE}; wait $!", on_terminal("chat", "setsid -c")),
            ],
        ),
        fault(
            "no room for events, report and metrics",
            vec![
                format!("{loud} --events $full/events --report $full/report --metrics $full/metrics"),
                format!("{loud} --events /dev/full --report /dev/full --metrics /dev/full"),
                format!("{FILL}; {loud} --events $pipe"),
            ],
        ),
    ]
}
