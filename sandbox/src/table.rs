//! The table: which system calls, for what, by whom. Who starts a thread may what that thread may
//! ([`Role::parent`]), so a row names the innermost roles only.
//!
//! Arguments are looked at where they are numbers and the choice is worth it: the commands of ioctl(2) by their type (bits 8
//! to 15, Documentation/userspace-api/ioctl/ioctl-number.rst), the flags of clone(2), no executable memory, families of sockets.

use libc::*;

use crate::Role::{self, Api, Device, Events, Main, Pin, Vcpu};

/// When a call is allowed. Arguments count from 0; their lower 32 bits are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Whatever its arguments.
    Always,
    /// An argument has this value.
    Is(u8, u64),
    /// Of an argument, the bits of a mask have this value.
    Bits(u8, u64, u64),
}

/// A call that some roles may make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its number.
    pub call: c_long,
    /// With which arguments.
    pub when: When,
    /// Why it may be that no test ever makes it.
    pub rarely: Option<&'static str>,
}

/// What some roles may do.
#[derive(Debug)]
pub struct Row {
    /// What it is for.
    pub what: &'static str,
    /// Who may; and so may who starts them.
    pub roles: &'static [Role],
    /// What.
    pub rules: &'static [Rule],
}

const fn row(what: &'static str, roles: &'static [Role], rules: &'static [Rule]) -> Row {
    Row { what, roles, rules }
}

const fn rule(call: c_long, when: When) -> Rule {
    Rule { call, when, rarely: None }
}

const fn any(call: c_long) -> Rule {
    rule(call, When::Always)
}

/// An ioctl by number.
const fn ioctl(command: u64) -> Rule {
    rule(SYS_ioctl, When::Is(1, command))
}

/// All ioctls of a type.
const fn ioctls(kind: u8) -> Rule {
    rule(SYS_ioctl, When::Bits(1, 0xff00, (kind as u64) << 8))
}

/// Memory that nobody can execute.
const fn data(call: c_long) -> Rule {
    rule(call, When::Bits(2, PROT_EXEC as u64, 0))
}

impl Rule {
    const fn rarely(self, why: &'static str) -> Self {
        Self { rarely: Some(why), ..self }
    }
}

/// Flags of clone(2) that matter: those of threads, of a process that borrows our memory until it executes another
/// program, and of new namespaces.
const CLONE: u64 = (CLONE_THREAD | CLONE_VM | CLONE_VFORK | NAMESPACES) as u64;
const NAMESPACES: c_int =
    CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET;

const EVERYONE: &[Role] = &[Pin, Device, Api, Events];
/// Who works with files and starts threads.
const WORKERS: &[Role] = &[Pin, Device, Api];
/// Who talks to others over streams.
const SERVERS: &[Role] = &[Device, Api];
/// Who has pin helpers pin, for clients that bring devices and for guests.
const PINNERS: &[Role] = &[Pin, Api];

const F_GETFD: u64 = libc::F_GETFD as u64;
const KVM: u8 = 0xae;
/// VFIO and iommufd.
const VFIO: u8 = b';';
const VHOST: u8 = 0xaf;
const BLOCK: u8 = 0x12;

/// All of it.
pub const TABLE: &[Row] = &[
    row(
        "memory, locks and the end of a thread",
        EVERYONE,
        &[
            data(SYS_mmap),
            data(SYS_mprotect),
            any(SYS_munmap),
            any(SYS_mremap).rarely("the allocator grows what is large by it"),
            any(SYS_madvise),
            any(SYS_brk),
            any(SYS_futex),
            any(SYS_sched_yield),
            any(SYS_sched_getaffinity),
            any(SYS_gettid),
            any(SYS_getpid),
            any(SYS_close),
            any(SYS_exit),
            any(SYS_exit_group).rarely("most threads end before the process does"),
        ],
    ),
    row(
        "whether a descriptor is open, which builds with debug assertions ask before they close it",
        &[Events],
        &[rule(SYS_fcntl, When::Is(1, F_GETFD)).rarely("what is released has none")],
    ),
    row(
        "files of the C library's own: refused, see below",
        &[Device, Events],
        &[READ_FILE.rarely("refused calls are not counted")],
    ),
    row(
        "signals, and the abort of a process that panics",
        EVERYONE,
        &[
            any(SYS_rt_sigaction),
            any(SYS_rt_sigprocmask),
            any(SYS_rt_sigreturn).rarely("few threads are ever signalled"),
            any(SYS_sigaltstack),
            any(SYS_tgkill).rarely("a panic aborts"),
            any(SYS_restart_syscall).rarely("a wait that a stopped process takes up again"),
            ioctl(TCSETS).rarely("a violation puts the terminal back"),
        ],
    ),
    row(
        "time, where the kernel gives it by call only",
        EVERYONE,
        &[any(SYS_clock_gettime).rarely("mostly it takes no call"), any(SYS_clock_nanosleep)],
    ),
    row(
        "the log, and what is written down, to readers who may not read",
        EVERYONE,
        &[any(SYS_write), any(SYS_writev), any(SYS_poll), any(SYS_ppoll)],
    ),
    row(
        "names of threads, and what confines them",
        EVERYONE,
        &[
            rule(SYS_prctl, When::Is(0, PR_SET_NAME as u64)),
            rule(SYS_prctl, When::Is(0, PR_GET_NAME as u64)).rarely("a violation names its thread"),
            rule(SYS_prctl, When::Is(0, PR_SET_NO_NEW_PRIVS as u64)),
            any(SYS_seccomp),
            any(SYS_capset),
            any(SYS_landlock_create_ruleset),
            any(SYS_landlock_restrict_self),
        ],
    ),
    row(
        "threads",
        WORKERS,
        &[
            any(SYS_clone3).rarely("refused calls are not counted"),
            rule(SYS_clone, When::Bits(0, CLONE & !(CLONE_VFORK as u64), (CLONE_THREAD | CLONE_VM) as u64)),
            any(SYS_rseq).rarely("a thread that begins has no name of its own yet"),
            any(SYS_set_robust_list).rarely("likewise"),
        ],
    ),
    row(
        "open files",
        WORKERS,
        &[
            any(SYS_read),
            any(SYS_readv),
            any(SYS_pread64),
            any(SYS_lseek),
            any(SYS_fcntl),
            any(SYS_statx),
            any(SYS_newfstatat),
            any(SYS_ftruncate),
            any(SYS_getrandom),
        ],
    ),
    row(
        "disks and persistent memory",
        &[Device],
        &[
            any(SYS_preadv),
            any(SYS_pwritev),
            any(SYS_pwrite64).rarely("what direct I/O does not reach where it is"),
            any(SYS_fdatasync),
            any(SYS_fsync),
            ioctls(BLOCK),
            any(SYS_io_uring_enter),
        ],
    ),
    row("guest memory that is given back, and what disks discard", &[Pin, Device], &[any(SYS_fallocate)]),
    row("events", SERVERS, &[ioctl(FIONBIO)]),
    row(
        "event loops of devices",
        &[Device],
        &[any(SYS_epoll_ctl), any(SYS_epoll_wait), any(SYS_epoll_pwait), any(SYS_timerfd_settime)],
    ),
    row(
        "the threads of a device whose driver is ready",
        &[Vcpu],
        &[any(SYS_eventfd2), any(SYS_epoll_create1), any(SYS_timerfd_create), any(SYS_io_uring_setup)],
    ),
    row(
        "streams of a vsock, and clients of the API",
        SERVERS,
        &[
            any(SYS_accept4),
            any(SYS_shutdown),
            rule(SYS_socket, When::Is(0, AF_UNIX as u64)),
            any(SYS_connect),
        ],
    ),
    row(
        "what streams carry, and what is said to pin helpers",
        WORKERS,
        &[any(SYS_recvfrom), any(SYS_sendto)],
    ),
    row("sizes of the terminals of a virtio console", &[Device], &[ioctl(TIOCGWINSZ)]),
    row("daemons of vhost-user devices", &[Device], &[any(SYS_sendmsg), any(SYS_recvmsg)]),
    row("queues of network cards", &[Device], &[ioctl(TUNSETQUEUE)]),
    row("network cards and vsocks whose driver is ready", &[Vcpu], &[ioctl(TUNSETOFFLOAD), ioctls(VHOST)]),
    row(
        "changes of interfaces that the kernel's vhost serves",
        &[Vcpu],
        &[rule(SYS_socket, When::Is(0, AF_NETLINK as u64)), any(SYS_bind)],
    ),
    row("the guest", &[Vcpu], &[ioctls(KVM)]),
    row("passed-through devices", &[Pin, Vcpu], &[ioctls(VFIO)]),
    row(
        "looking at the host: /proc, /sys, files of disks",
        PINNERS,
        &[any(SYS_openat), any(SYS_readlink), any(SYS_getdents64), any(SYS_uname), any(SYS_prlimit64)],
    ),
    row("looking at the host before a start", &[Main], &[any(SYS_open), any(SYS_capget), any(SYS_getcwd)]),
    row(
        "starting, watching and ending pin helpers, which are this very binary",
        PINNERS,
        &[
            rule(SYS_clone, When::Bits(0, CLONE, (CLONE_VM | CLONE_VFORK) as u64)),
            any(SYS_execve),
            any(SYS_dup2),
            any(SYS_socketpair),
            any(SYS_kill),
            any(SYS_wait4),
            any(SYS_memfd_create),
        ],
    ),
    row(
        "what pin helpers do until they confine themselves further",
        PINNERS,
        &[
            any(SYS_arch_prctl),
            any(SYS_set_tid_address),
            any(SYS_close_range),
            any(SYS_fstatfs),
            rule(SYS_prctl, When::Is(0, PR_SET_PDEATHSIG as u64)),
            rule(SYS_prctl, When::Is(0, PR_GET_AUXV)),
            any(SYS_io_uring_setup),
            any(SYS_io_uring_register),
            ioctl(UDMABUF_CREATE),
        ],
    ),
    row(
        "taking turns with other machines that pin",
        &[Pin],
        &[any(SYS_geteuid), any(SYS_mkdir), any(SYS_flock)],
    ),
    row(
        "files that vmm makes: reports, marks, locks, sockets, links to terminals",
        &[Main],
        &[
            any(SYS_fchmod),
            any(SYS_rename),
            any(SYS_unlink),
            any(SYS_symlink),
            any(SYS_listen),
            any(SYS_getsockopt).rarely("a socket that is handed in"),
        ],
    ),
    row(
        "taps: their state, MTU and changes of it",
        &[Main],
        &[
            rule(SYS_socket, When::Is(0, AF_INET as u64)),
            ioctl(TUNSETIFF),
            ioctl(TUNSETVNETHDRSZ),
            ioctl(TUNGETIFF).rarely("a tap that is handed in"),
            ioctl(SIOCGIFMTU),
            ioctl(SIOCSIFMTU),
            ioctl(SIOCGIFFLAGS),
            ioctl(SIOCSIFFLAGS),
        ],
    ),
    row(
        "terminals",
        &[Main],
        &[ioctl(TCGETS), ioctl(TCGETS2), ioctl(TCSETS2), ioctl(TIOCGPTN), ioctl(TIOCSPTLCK)],
    ),
    row(
        "files of persistent memory that others may cut short",
        &[Main],
        &[any(SYS_inotify_init1), any(SYS_inotify_add_watch)],
    ),
    row("files that it reaches by path from now on", &[Main], &[any(SYS_landlock_add_rule)]),
    row(
        "NUMA nodes of guest memory, and how threads of a machine run",
        &[Main],
        &[any(SYS_sched_setscheduler), any(SYS_mbind)],
    ),
    row("where threads that pin run, and those of a machine", &[Pin], &[any(SYS_sched_setaffinity)]),
    row("leaving the CPUs of a vCPU", &[Device], &[rule(SYS_sched_setaffinity, When::Is(0, 0))]),
];

/// A call that fails instead of being a violation.
pub(crate) struct Refused {
    /// By whom, and all that it starts.
    pub(crate) by: Role,
    pub(crate) call: Rule,
    pub(crate) errno: c_int,
}

/// What the C library tries, and does without. It is in [`TABLE`] as well, or it would be a violation.
pub(crate) const REFUSED: &[Refused] = &[
    // The flags of clone3(2) are in memory, where no filter sees them. Then clone(2) is used.
    Refused { by: Main, call: any(SYS_clone3), errno: ENOSYS },
    // The allocator looks for /proc/sys/vm/overcommit_memory when the heap of a thread first shrinks.
    Refused { by: Vcpu, call: READ_FILE, errno: EACCES },
    Refused { by: Events, call: READ_FILE, errno: EACCES },
];

/// Opening a file for reading, as the C library does it for itself.
const READ_FILE: Rule = rule(SYS_openat, When::Is(2, (O_RDONLY | O_CLOEXEC) as u64));

/// include/uapi/linux/prctl.h, from Linux 6.4 on; the standard library asks.
const PR_GET_AUXV: u64 = 0x4155_5856;
/// include/uapi/linux/udmabuf.h
const UDMABUF_CREATE: u64 = 0x4018_7542;

#[cfg(test)]
#[path = "table_test.rs"]
mod tests;
