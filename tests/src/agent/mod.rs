//! The agent: this same binary as `/init` of a lab host. As process 1 it makes a usable system of the bare
//! kernel and reaps what is orphaned; its child takes the lab's requests (`serve`).

mod client;
mod devices;
mod serve;
mod session;

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use rustix::mount::MountFlags;
use rustix::process::{Resource, Rlimit, WaitOptions};

/// On the kernel command line: leave the devices with their own drivers.
pub(crate) const NO_BIND: &str = "lab.nobind";

const PATH: &str = "/bin:/sbin:/usr/bin:/usr/sbin";

/// Mounted in this order: file system, where, options. A kernel may lack some; commands will tell.
const MOUNTS: [(&str, &str, &str); 11] = [
    ("devtmpfs", "/dev", "mode=0755"),
    ("proc", "/proc", ""),
    ("sysfs", "/sys", ""),
    ("devpts", "/dev/pts", "mode=0620,ptmxmode=0666"),
    ("tmpfs", "/dev/shm", "mode=1777"),
    ("tmpfs", "/tmp", "mode=1777"),
    ("tmpfs", "/run", "mode=0755"),
    ("debugfs", "/sys/kernel/debug", ""),
    ("tracefs", "/sys/kernel/tracing", ""),
    ("cgroup2", "/sys/fs/cgroup", ""),
    ("hugetlbfs", "/dev/hugepages", ""),
];

/// Since Linux 7 its scheduler ends slices of a millisecond by a timer of its own, where threads are more than CPUs. An interrupt is
/// dear where it is emulated, and all the more if it ends a guest's slice too. Kernels that have no such thing say so.
const SCHEDULER: (&str, &str) = ("/sys/kernel/debug/sched/features", "NO_HRTICK");

/// CPUs for work that the kernel does on none in particular, as a mask.
const UNBOUND_WORK: &str = "/sys/devices/virtual/workqueue/cpumask";

/// Whether this process was started as the agent, and not as the lab tool.
pub(crate) fn is_wanted() -> bool {
    std::env::args_os().next().as_deref() == Some(OsStr::new("/init"))
}

/// Runs the agent: process 1 or, with `serve` as argument, the one that takes requests; with others, a tool for cases.
pub(crate) fn main() -> ExitCode {
    if rustix::process::getpid() == rustix::process::Pid::INIT {
        init();
        return ExitCode::FAILURE;
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let problems = arguments.iter().skip(1).cloned().collect();
    match client::run(&arguments).unwrap_or_else(|| serve::run(problems)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("lab agent: {e}");
            ExitCode::FAILURE
        }
    }
}

/// Process 1: returns only when the machine could not be switched off.
fn init() {
    let problems = prepare();
    match Command::new("/init").arg("serve").args(problems).spawn() {
        Ok(server) => reap_until(server.id()),
        Err(e) => eprintln!("lab agent: cannot start the server: {e}"),
    }
    eprintln!("lab agent: ended, the host goes with it");
    if let Err(e) = rustix::system::reboot(rustix::system::RebootCommand::PowerOff) {
        eprintln!("lab agent: cannot power off: {e}");
    }
}

/// Has this process, and so all that it starts, run on the other CPUs, if there are any: QEMU upsets guests that run on its
/// first one (docs/lab.md). The work that the kernel does for them goes with them, as if that one were not there.
fn leave_first_cpu() -> std::io::Result<()> {
    let mut cpus = rustix::thread::sched_getaffinity(None)?;
    if cpus.count() > 1 {
        cpus.unset(0);
        rustix::thread::sched_setaffinity(None, &cpus)?;
        let mask =
            (0..u64::BITS).filter(|cpu| cpus.is_set(*cpu as usize)).fold(0_u64, |mask, cpu| mask | 1 << cpu);
        fs::write(UNBOUND_WORK, format!("{mask:x}\n"))?;
    }
    Ok(())
}

fn reap_until(server: u32) {
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, _))) if pid.as_raw_nonzero().get().cast_unsigned() == server => return,
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

/// Brings the system up as far as it goes; gives back what failed.
fn prepare() -> Vec<String> {
    let mut problems = Vec::new();
    for (kind, target, options) in MOUNTS {
        if let Err(e) = mount(kind, target, options)
            && !matches!(e, rustix::io::Errno::NODEV | rustix::io::Errno::NOENT)
        {
            problems.push(format!("cannot mount {kind} on {target}: {e}"));
        }
    }
    if let Err(e) = leave_first_cpu() {
        problems.push(format!("cannot keep guests off the first CPU: {e}"));
    }
    let (features, slices) = SCHEDULER;
    let _ = fs::write(features, slices);
    let unlimited = Rlimit { current: None, maximum: None };
    if let Err(e) = rustix::process::setrlimit(Resource::Memlock, unlimited) {
        problems.push(format!("cannot lift the memlock limit: {e}"));
    }
    let files = Rlimit { current: Some(65_536), maximum: Some(65_536) };
    if let Err(e) = rustix::process::setrlimit(Resource::Nofile, files) {
        problems.push(format!("cannot raise the limit of open files: {e}"));
    }
    if let Err(e) = fs::write("/proc/sys/kernel/hostname", "lab\n") {
        problems.push(format!("cannot set the host name: {e}"));
    }
    let command_line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    devices::load_host_modules(&mut problems);
    if !command_line.split_whitespace().any(|word| word == NO_BIND) {
        devices::bind_to_vfio(Path::new("/sys/bus/pci"), &mut problems);
    }
    devices::load_driver_modules();
    if let Err(e) = run("ip", &["link", "set", "lo", "up"]) {
        problems.push(format!("loopback does not come up: {e}"));
    }
    problems
}

fn mount(kind: &str, target: &str, options: &str) -> Result<(), rustix::io::Errno> {
    // Some of these exist already, some file systems refuse new directories: mounting will tell.
    let _ = fs::create_dir_all(target);
    let options = std::ffi::CString::new(options).map_err(|_| rustix::io::Errno::INVAL)?;
    rustix::mount::mount(kind, target, kind, MountFlags::empty(), Some(options.as_c_str()))
}

/// Runs a busybox applet; its words are the error.
fn run(applet: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new("/bin/busybox").arg(applet).args(arguments).env("PATH", PATH).output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(e) => Err(e.to_string()),
    }
}
