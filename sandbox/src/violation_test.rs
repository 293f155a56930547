use std::os::fd::AsRawFd;
use std::process::{Command, Output};

use super::*;
use crate::Role;

/// A filter is for good and a violation ends the process, so tests run themselves again: in the child this variable is
/// what to do there.
const TASK: &str = "SANDBOX_TEST_TASK";

fn in_child(task: &str) -> Output {
    let name = "violation::tests::what_children_do";
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture"]).env(TASK, task).output().unwrap()
}

/// In a thread of this role.
fn as_role(role: Role, work: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().name(format!("a-{role:?}"));
    thread
        .spawn(move || {
            role.enter();
            work();
        })
        .unwrap()
        .join()
        .unwrap();
}

#[test]
fn what_children_do() {
    let Ok(task) = std::env::var(TASK) else { return };
    // Opened before, as everything that a thread serves is.
    let file = std::fs::File::open("/dev/null").unwrap();
    crate::arm(&crate::Confinement::default(), || {
        // SAFETY: a literal and its length.
        unsafe { libc::write(2, b"last words\n".as_ptr().cast(), 11) };
    })
    .unwrap();
    match task.as_str() {
        "open" => as_role(Role::Vcpu, || drop(std::fs::File::create("/dev/null"))),
        "execute" => as_role(Role::Device, || {
            let program = c"/bin/true".as_ptr();
            // SAFETY: paths and lists end with zeroes.
            unsafe { libc::execve(program, [program, ptr::null()].as_ptr(), [ptr::null()].as_ptr()) };
        }),
        "ioctl" => as_role(Role::Device, move || {
            // SAFETY: TIOCSTI reads one byte.
            unsafe { libc::ioctl(file.as_raw_fd(), libc::TIOCSTI, b"x".as_ptr()) };
        }),
        "executable memory" => as_role(Role::Main, || {
            // SAFETY: a new mapping that nobody uses.
            unsafe {
                libc::mmap(
                    ptr::null_mut(),
                    4096,
                    libc::PROT_EXEC,
                    libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                    -1,
                    0,
                )
            };
        }),
        "fork" => as_role(Role::Main, || {
            // SAFETY: the child would end at once.
            if unsafe { libc::fork() } == 0 {
                // SAFETY: ends the child, which does nothing else.
                unsafe { libc::_exit(0) };
            }
        }),
        "connect" => as_role(Role::Pin, || drop(std::os::unix::net::UnixStream::connect("/none"))),
        "serve" => {
            as_role(Role::Vcpu, || {
                as_role(Role::Device, || drop(std::io::stderr().lock().write(b"served\n")))
            });
            as_role(Role::Vcpu, || assert!(std::fs::File::open("/dev/null").is_err()));
            as_role(Role::Device, || {
                let blocks: Vec<Vec<u8>> = (0..99).map(|_| Vec::with_capacity(16 << 10)).collect();
                drop(std::hint::black_box(blocks));
            });
            for role in [Role::Api, Role::Pin] {
                as_role(role, || {
                    assert!(
                        Command::new("/proc/self/exe")
                            .arg("--list")
                            .stdout(std::process::Stdio::null())
                            .status()
                            .unwrap()
                            .success()
                    )
                });
            }
            assert!(std::fs::read("/proc/self/status").is_ok());
        }
        other => panic!("{other}"),
    }
}

#[test]
fn what_a_role_needs_works() {
    let output = in_child("serve");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("served"), "{:?} {said}", output.status);
}

#[test]
fn a_violation_is_explained_and_ends_the_process() {
    for (task, thread, call) in [
        ("open", "a-Vcpu", "openat (257; "),
        ("execute", "a-Device", "execve (59; "),
        ("ioctl", "a-Device", "ioctl (16; "),
        ("executable memory", "a-Main", "mmap (9; 0x0, 0x1000, 0x4)"),
        ("fork", "a-Main", "clone (56; "),
        ("connect", "a-Pin", "socket (41; "),
    ] {
        let output = in_child(task);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(EXIT_CODE.into()), "{task}: {said}");
        let line = said.lines().find(|line| line.contains("the sandbox has stopped vmm")).unwrap_or_default();
        assert!(
            line.contains(&format!(
                "thread {thread} made system call {}",
                if call == " (" { "" } else { call }
            )),
            "{task}: {said}"
        );
        assert!(said.contains("--sandbox off") && said.contains("last words"), "{task}: {said}");
    }
}
