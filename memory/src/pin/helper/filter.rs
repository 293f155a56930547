//! What a pin helper may ask of the kernel: to hear and answer its parent, to pin and unpin, to allocate a little
//! memory, and to end. Everything else kills it (seccomp, Documentation/userspace-api/seccomp_filter.rst), which its
//! parent takes as it takes any other death of it.

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Length, SeccompCmpOp as Compare, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};

use crate::pin::udmabuf::UDMABUF_CREATE;

/// `IORING_REGISTER_BUFFERS_UPDATE` (include/uapi/linux/io_uring.h).
const REGISTER_BUFFERS_UPDATE: u64 = 16;

/// Needed as they are.
const PLAIN: [libc::c_long; 15] = [
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_close,
    libc::SYS_lseek,
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigprocmask,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Confines this process for good.
///
/// # Errors
/// The kernel has no seccomp filters, or the filter is not understood.
pub(super) fn apply() -> Result<(), seccompiler::Error> {
    let mut rules: Vec<(libc::c_long, Vec<SeccompRule>)> = PLAIN.map(|call| (call, Vec::new())).into();
    let only = |argument, length, compare, value| {
        let condition = SeccompCondition::new(argument, length, compare, value)?;
        Ok::<_, seccompiler::BackendError>(vec![SeccompRule::new(vec![condition])?])
    };
    rules.push((libc::SYS_io_uring_register, only(1, Length::Dword, Compare::Eq, REGISTER_BUFFERS_UPDATE)?));
    rules.push((libc::SYS_ioctl, only(1, Length::Dword, Compare::Eq, UDMABUF_CREATE)?));
    let executable = Compare::MaskedEq(libc::PROT_EXEC as u64);
    rules.push((libc::SYS_mmap, only(2, Length::Dword, executable, 0)?));
    let filter = SeccompFilter::new(
        rules.into_iter().collect(),
        SeccompAction::KillProcess,
        SeccompAction::Allow,
        TargetArch::x86_64,
    )?;
    let program: BpfProgram = filter.try_into()?;
    seccompiler::apply_filter(&program)
}
