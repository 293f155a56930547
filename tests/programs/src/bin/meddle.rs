//! What others on a host may do to a start, for tests:
//!
//! - `meddle lock FILE` takes the lock (flock) on FILE, says so, and keeps it until its standard input ends;
//! - `meddle seal FILE` tries to add every seal to FILE, and prints what the kernel says;
//! - `meddle deny io_uring CMD..` runs CMD under a seccomp filter in which io_uring_setup fails, as container engines do;
//! - `meddle kill io_uring CMD..` the same, but the filter kills the process, as systemd's `SystemCallFilter=` does;
//! - `meddle hang io_uring CMD..` the same, but the call does not come back: CMD has the end that is to answer, and does not;
//! - `meddle deny ioctl REQUEST CMD..` runs CMD where ioctls of this request fail with ENOTTY, as on a kernel that has them not;
//! - `meddle without CAPABILITY CMD..` runs CMD without this capability, given by its number.
//!
//! # Unsafe
//! A prctl that takes plain numbers, a seccomp filter, and taking ownership of its descriptor.
#![expect(unsafe_code, reason = "prctl, seccomp")]
#![expect(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used, reason = "a test program")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::fs::{FlockOperation, SealFlags, fcntl_add_seals, flock};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter,
};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["lock", path] => lock(path),
        ["seal", path] => seal(path),
        ["deny", "io_uring", command @ ..] => {
            filter(SeccompAction::Errno(libc::EPERM as u32), libc::SYS_io_uring_setup, Vec::new());
            run(command);
        }
        ["deny", "ioctl", request, command @ ..] => {
            let request = u64::from_str_radix(request.trim_start_matches("0x"), 16).unwrap();
            let is_request =
                SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, request).unwrap();
            let rules = vec![SeccompRule::new(vec![is_request]).unwrap()];
            filter(SeccompAction::Errno(libc::ENOTTY as u32), libc::SYS_ioctl, rules);
            run(command);
        }
        ["kill", "io_uring", command @ ..] => {
            filter(SeccompAction::KillProcess, libc::SYS_io_uring_setup, Vec::new());
            run(command);
        }
        ["hang", "io_uring", command @ ..] => {
            let listener = filter_without_answer();
            rustix::io::fcntl_setfd(&listener, rustix::io::FdFlags::empty()).unwrap();
            run(command);
        }
        ["without", capability, command @ ..] => {
            let capability: libc::c_ulong = capability.parse().unwrap();
            // SAFETY: the call takes numbers.
            let done = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability) };
            assert_eq!(done, 0, "{}", io::Error::last_os_error());
            run(command);
        }
        _ => {
            eprintln!("meddle: what with?");
            std::process::exit(2);
        }
    }
}

fn lock(path: &str) {
    if let Some(directory) = std::path::Path::new(path).parent() {
        fs::create_dir_all(directory).unwrap();
    }
    let file = File::options().write(true).create(true).truncate(false).open(path).unwrap();
    flock(&file, FlockOperation::LockExclusive).unwrap();
    println!("meddle: locked");
    io::copy(&mut io::stdin(), &mut io::sink()).unwrap();
}

fn seal(path: &str) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    for (name, seal) in [
        ("seal", SealFlags::SEAL),
        ("shrink", SealFlags::SHRINK),
        ("grow", SealFlags::GROW),
        ("write", SealFlags::WRITE),
        ("future write", SealFlags::FUTURE_WRITE),
    ] {
        match fcntl_add_seals(&file, seal) {
            Ok(()) => println!("meddle: {name}: sealed"),
            Err(errno) => println!("meddle: {name}: {errno}"),
        }
    }
}

/// Has `call` end so wherever one of the rules holds, or wherever if there are none.
fn filter(action: SeccompAction, call: i64, rules: Vec<SeccompRule>) {
    let rules = BTreeMap::from([(call, rules)]);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, action, TargetArch::x86_64).unwrap();
    let program: BpfProgram = filter.try_into().unwrap();
    apply_filter(&program).unwrap();
}

/// A filter in which io_uring_setup waits for an answer from whoever has the descriptor (seccomp_unotify(2)).
fn filter_without_answer() -> OwnedFd {
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    // The number of the call is the first word of struct seccomp_data.
    let mut steps = [
        step((libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16, 0, 0, 0),
        step((libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16, 0, 1, libc::SYS_io_uring_setup as u32),
        step((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, libc::SECCOMP_RET_USER_NOTIF),
        step((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
    let (mode, flags) = (libc::SECCOMP_SET_MODE_FILTER, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER);
    // SAFETY: the program and its steps live until the call returns; the descriptor it returns is nobody else's.
    unsafe {
        let fd = libc::syscall(libc::SYS_seccomp, mode, flags, &raw const program);
        assert!(fd >= 0, "{}", io::Error::last_os_error());
        OwnedFd::from_raw_fd(fd as i32)
    }
}

/// Becomes `command`.
fn run(command: &[&str]) {
    let (program, arguments) = command.split_first().unwrap();
    let error = Command::new(program).args(arguments).exec();
    eprintln!("meddle: {program}: {error}");
    std::process::exit(127);
}
