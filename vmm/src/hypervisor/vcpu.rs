//! One virtual processor: its state, and what it stops for.
//!
//! # Unsafe
//! The size of a port access is only in the shared `kvm_run` page, and stopping a vCPU races with it entering
//! the guest unless a signal handler sets `immediate_exit` in that page.
#![expect(unsafe_code, reason = "reads and writes the kvm_run page shared with the kernel")]

use std::cell::Cell;
use std::io;
use std::ptr;
use std::sync::{Arc, Once};

use devices::{Action, Bus};
use kvm_bindings::{
    KVM_SYSTEM_EVENT_CRASH, KVM_SYSTEM_EVENT_RESET, KVM_SYSTEM_EVENT_SHUTDOWN, kvm_regs, kvm_run, kvm_sregs,
};
use kvm_ioctls::{VcpuExit, VcpuFd};
use thiserror::Error;
use vmm_sys_util::signal::{SIGRTMIN, register_signal_handler};

use super::cpuid::{self, Features};
use super::exits::{Cause, Exits};
use super::state::VcpuState;
use super::vm::Vm;
use super::{Hypervisor, KvmError};

/// So often in a row KVM may refuse to run a vCPU for now.
const REFUSALS: u32 = 1000;
/// `KVM_INTERNAL_ERROR_DELIVERY_EV`: an access of the CPU's own, on its way to a handler, hit a device.
const DELIVERY_EVENT: u32 = 3;

thread_local! {
    /// The `kvm_run` page of the vCPU this thread runs.
    static RUNNING: Cell<*mut kvm_run> = const { Cell::new(ptr::null_mut()) };
}

/// The signal that makes a vCPU thread leave the guest.
pub fn kick_signal() -> i32 {
    SIGRTMIN()
}

/// Keeps [`kick_signal`] from ending the process. To be called before there is anybody to kick.
pub fn catch_kicks() -> io::Result<()> {
    static HANDLER: Once = Once::new();
    let mut registered = Ok(());
    HANDLER.call_once(|| registered = register_signal_handler(kick_signal(), leave_guest));
    registered.map_err(|error| io::Error::from_raw_os_error(error.errno()))
}

extern "C" fn leave_guest(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    let run = RUNNING.get();
    if !run.is_null() {
        // SAFETY: set by `Vcpu::enter` to the page of the vCPU that this very thread runs, and cleared before
        // the vCPU goes. A byte store is async-signal-safe.
        unsafe { ptr::addr_of_mut!((*run).immediate_exit).write_volatile(1) };
    }
}

/// The devices that answer a vCPU's accesses.
pub struct Buses<'a> {
    /// Port I/O.
    pub pio: &'a Bus,
    /// Memory-mapped I/O.
    pub mmio: &'a Bus,
    /// Told of the end of level-triggered interrupts, by vector.
    pub end_of_interrupt: &'a dyn Fn(u8),
}

/// What a vCPU came back for.
#[derive(Debug)]
pub enum Stop {
    /// It was kicked.
    Kicked,
    /// A device asked for something.
    Action(Action),
}

/// A guest that cannot go on.
#[derive(Debug, Error)]
pub enum GuestFailure {
    /// The guest's own fault handlers faulted; without firmware that is the end.
    #[error("triple fault on vCPU {vcpu} at rip {rip:#x} (cr2 {cr2:#x}, cr3 {cr3:#x})")]
    TripleFault {
        /// Which vCPU.
        vcpu: u32,
        /// Guest virtual address of the next instruction.
        rip: u64,
        /// Guest virtual address of the last page fault.
        cr2: u64,
        /// GPA of the page tables.
        cr3: u64,
    },
    /// The hardware refused the vCPU's state.
    #[error("the CPU refuses to run vCPU {vcpu}: reason {reason:#x}")]
    FailEntry {
        /// Which vCPU.
        vcpu: u32,
        /// VMX exit reason or SVM exit code.
        reason: u64,
    },
    /// KVM cannot emulate what the guest does.
    #[error("KVM cannot go on with vCPU {vcpu}: internal error {suberror} at rip {rip:#x}")]
    Internal {
        /// Which vCPU.
        vcpu: u32,
        /// `KVM_INTERNAL_ERROR_*`: 1 is an instruction that KVM does not emulate.
        suberror: u32,
        /// Guest virtual address of the instruction.
        rip: u64,
    },
    /// The guest kernel reported its own crash.
    #[error("the guest kernel reported a crash on vCPU {vcpu}")]
    Crash {
        /// Which vCPU.
        vcpu: u32,
    },
    /// An exit that KVM was not asked for.
    #[error("vCPU {vcpu} stopped for an unknown reason: {exit}")]
    Unexpected {
        /// Which vCPU.
        vcpu: u32,
        /// The exit.
        exit: String,
    },
    /// KVM_RUN failed.
    #[error("vCPU {vcpu} cannot run")]
    Run {
        /// Which vCPU.
        vcpu: u32,
        /// The call.
        #[source]
        source: KvmError,
    },
}

/// The registers of a vCPU that stands still.
#[derive(Clone, Copy, Debug, Default)]
pub struct Registers {
    /// General-purpose registers, instruction pointer and flags.
    pub general: kvm_regs,
    /// Segments, control registers and the like.
    pub system: kvm_sregs,
}

/// A virtual processor.
pub struct Vcpu {
    fd: VcpuFd,
    index: u32,
    power_on: VcpuState,
    exits: Arc<Exits>,
}

impl Vcpu {
    /// Makes vCPU `index` of `vm`, in its power-on state.
    pub fn new(hypervisor: &Hypervisor, vm: &Vm, index: u32, features: &Features) -> Result<Self, KvmError> {
        let fd =
            vm.fd().create_vcpu(index.into()).map_err(KvmError::of(format!("KVM_CREATE_VCPU {index}")))?;
        let cpuid = cpuid::for_vcpu(hypervisor.supported_cpuid(), index, features);
        fd.set_cpuid2(&cpuid).map_err(KvmError::of("KVM_SET_CPUID2"))?;
        let power_on = VcpuState::power_on(&fd, hypervisor.msr_indices()?.as_slice())?;
        Ok(Self { fd, index, power_on, exits: Arc::default() })
    }

    /// Which one it is; also its APIC id.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Why it left the guest, counted as it does.
    pub fn exits(&self) -> &Arc<Exits> {
        &self.exits
    }

    pub(super) fn fd(&self) -> &VcpuFd {
        &self.fd
    }

    /// Back to power-on: vCPU 0 ready to be given its entry state, the others waiting for their start-up message.
    pub fn reset(&mut self) -> Result<(), KvmError> {
        self.power_on.restore(&self.fd)
    }

    /// The power-on system registers, to derive the boot state from.
    pub fn power_on_sregs(&self) -> kvm_sregs {
        self.power_on.sregs
    }

    /// Its registers.
    pub fn registers(&self) -> Result<Registers, KvmError> {
        Ok(Registers {
            general: self.fd.get_regs().map_err(KvmError::of("KVM_GET_REGS"))?,
            system: self.fd.get_sregs().map_err(KvmError::of("KVM_GET_SREGS"))?,
        })
    }

    /// Sets where and in which mode it starts.
    pub fn set_entry(&mut self, regs: &kvm_regs, sregs: &kvm_sregs) -> Result<(), KvmError> {
        self.fd.set_sregs(sregs).map_err(KvmError::of("KVM_SET_SREGS"))?;
        self.fd.set_regs(regs).map_err(KvmError::of("KVM_SET_REGS"))
    }

    /// Makes this thread the vCPU's, so that [`kick_signal`] sent to it makes [`Vcpu::run`] return.
    pub fn enter(&mut self) -> io::Result<Entered<'_>> {
        catch_kicks()?;
        let run = ptr::from_mut(self.fd.get_kvm_run());
        RUNNING.set(run);
        Ok(Entered { vcpu: self, run })
    }
}

/// A vCPU on the thread that runs it.
pub struct Entered<'a> {
    vcpu: &'a mut Vcpu,
    run: *mut kvm_run,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        RUNNING.set(ptr::null_mut());
        self.vcpu.fd.set_kvm_immediate_exit(0);
    }
}

impl Entered<'_> {
    /// Runs the guest until something other than a device access needs attention.
    pub fn run(&mut self, buses: &Buses) -> Result<Stop, GuestFailure> {
        let mut again = false;
        let mut refused = 0;
        loop {
            let tried = std::mem::take(&mut again);
            let refusals = std::mem::take(&mut refused);
            let exit = self.vcpu.fd.run();
            self.vcpu.exits.count(cause(&exit));
            let action = match exit {
                Ok(VcpuExit::IoIn(port, data)) => {
                    // SAFETY: the last exit was an I/O exit, so the `io` member of the union is the one set;
                    // the page stays mapped as long as the vCPU.
                    let size = unsafe { (*self.run).__bindgen_anon_1.io.size };
                    data.chunks_mut(size.max(1).into()).for_each(|item| buses.pio.read(port.into(), item));
                    Action::None
                }
                Ok(VcpuExit::IoOut(port, data)) => {
                    // SAFETY: as above.
                    let size = unsafe { (*self.run).__bindgen_anon_1.io.size };
                    write_each(buses.pio, port.into(), data.chunks(size.max(1).into()), 0)
                }
                Ok(VcpuExit::MmioRead(address, data)) => {
                    for (item, offset) in split(data.len()) {
                        if let Some(part) = data.get_mut(offset..offset + item) {
                            buses.mmio.read(address + offset as u64, part);
                        }
                    }
                    Action::None
                }
                Ok(VcpuExit::MmioWrite(address, data)) => {
                    let parts =
                        split(data.len()).filter_map(|(item, offset)| data.get(offset..offset + item));
                    write_each(buses.mmio, address, parts, 1)
                }
                Ok(VcpuExit::IoapicEoi(vector)) => {
                    (buses.end_of_interrupt)(vector);
                    Action::None
                }
                Ok(VcpuExit::Intr) => return Ok(Stop::Kicked),
                Ok(VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_SHUTDOWN, _)) => Action::PowerOff,
                Ok(VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_RESET, _)) => Action::Reset,
                Ok(VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_CRASH, _)) => {
                    return Err(GuestFailure::Crash { vcpu: self.vcpu.index });
                }
                Ok(VcpuExit::Shutdown) => return Err(self.triple_fault()),
                Ok(VcpuExit::FailEntry(reason, _)) => {
                    return Err(GuestFailure::FailEntry { vcpu: self.vcpu.index, reason });
                }
                Ok(VcpuExit::InternalError) => match self.internal_error() {
                    // Since 6.14 KVM on AMD takes leftovers in a field that is not valid for an event in delivery, and
                    // an access to a device then for one made by it (svm_check_emulate_instruction). Nothing has
                    // happened yet, and the second try finds the field clear. A real one fails again.
                    GuestFailure::Internal { suberror: DELIVERY_EVENT, .. } if !tried => {
                        again = true;
                        Action::None
                    }
                    failure => return Err(failure),
                },
                Ok(exit) => {
                    let exit = format!("{exit:?}");
                    return Err(GuestFailure::Unexpected { vcpu: self.vcpu.index, exit });
                }
                Err(error) if error.errno() == libc::EINTR => return Ok(Stop::Kicked),
                // Of a vCPU that has left the wait for its start, and of a thread that KVM cannot start (RLIMIT_NPROC, pids.max)
                // before the vCPU first runs (kvm_mmu_post_init_vm): the first does not come again and again.
                Err(error) if error.errno() == libc::EAGAIN && refusals < REFUSALS => {
                    refused = refusals + 1;
                    Action::None
                }
                Err(error) => {
                    let source = KvmError::of("KVM_RUN")(error);
                    return Err(GuestFailure::Run { vcpu: self.vcpu.index, source });
                }
            };
            if action != Action::None {
                return Ok(Stop::Action(action));
            }
        }
    }

    /// Lets the next [`Entered::run`] enter the guest again after [`Stop::Kicked`].
    pub fn rearm(&mut self) {
        self.vcpu.fd.set_kvm_immediate_exit(0);
    }

    fn triple_fault(&self) -> GuestFailure {
        let rip = self.vcpu.fd.get_regs().map_or(0, |regs| regs.rip);
        let (cr2, cr3) = self.vcpu.fd.get_sregs().map_or((0, 0), |sregs| (sregs.cr2, sregs.cr3));
        GuestFailure::TripleFault { vcpu: self.vcpu.index, rip, cr2, cr3 }
    }

    fn internal_error(&self) -> GuestFailure {
        let rip = self.vcpu.fd.get_regs().map_or(0, |regs| regs.rip);
        // SAFETY: the last exit was an internal error, so that member of the union is the one set.
        let suberror = unsafe { (*self.run).__bindgen_anon_1.internal.suberror };
        GuestFailure::Internal { vcpu: self.vcpu.index, suberror, rip }
    }
}

/// What an exit is counted as.
fn cause(exit: &Result<VcpuExit, kvm_ioctls::Error>) -> Cause {
    match exit {
        Ok(VcpuExit::IoIn(..) | VcpuExit::IoOut(..)) => Cause::Port,
        Ok(VcpuExit::MmioRead(..) | VcpuExit::MmioWrite(..)) => Cause::Mmio,
        Ok(VcpuExit::IoapicEoi(_)) => Cause::EndOfInterrupt,
        Ok(VcpuExit::Intr) => Cause::Kicked,
        Err(error) if error.errno() == libc::EINTR => Cause::Kicked,
        _ => Cause::Other,
    }
}

/// Writes the items of one access; `stride` 0 repeats them at one address (string port I/O), else they follow
/// each other. The first action wins; the rest of the access still happens.
fn write_each<'a>(bus: &Bus, address: u64, items: impl Iterator<Item = &'a [u8]>, stride: u64) -> Action {
    let mut first = Action::None;
    let mut at = address;
    for item in items {
        let action = bus.write(at, item);
        at += stride * item.len() as u64;
        if first == Action::None {
            first = action;
        }
    }
    first
}

/// Splits an access of any length into those a device knows (1, 2, 4, 8 bytes): `(length, offset)`. KVM cuts
/// accesses at page boundaries, which can leave odd lengths.
fn split(length: usize) -> impl Iterator<Item = (usize, usize)> {
    let item = if length.is_power_of_two() { length } else { 1 };
    (0..length).step_by(item.max(1)).map(move |offset| (item, offset))
}
