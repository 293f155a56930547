//! QEMU as a lab host: its command line and its process.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use super::spec::DISTRIBUTION;
use super::{Clock, Console, HostError, HostSpec, tsc};
use crate::agent::NO_BIND;
use crate::setup::{Artefacts, Debian, Distribution};
use crate::wire::PORT;
use crate::{cpu, process};

/// Stands for the path of the host's kernel.
const KERNEL: &str = "HOST_KERNEL";
/// A panic reboots at once, which QEMU takes as the end. The check that the timer ticks fails now and then on
/// a busy machine, whose emulated timer is late. So does the kernel's measurement of the TSC's frequency, without which
/// guests have no clock: it is told (`tsc_early_khz`, below), and finds no HPET and no ACPI timer to correct it by after
/// KVM has taken note of it. With KASLR early page tables lie anywhere above 4 GiB, now and then in the midst of where
/// the CMA area was to be, which then moves below. With huge pages a guest takes a hundredth of the page
/// faults, each of which costs emulation a fifth of a millisecond or more.
const APPEND: &str = "console=ttyS0 intel_iommu=on iommu=nopt no_timer_check hpet=disable pmtmr=0 tsc=reliable \
                      panic=-1 nokaslr cma=1G transparent_hugepage_shmem=always";

/// This side of what connects a QEMU with the lab.
pub(super) struct Sockets {
    /// The agent's port.
    pub(super) agent: UnixStream,
    /// QEMU's own monitor.
    pub(super) monitor: UnixStream,
}

/// A QEMU process; dropping it kills it.
pub(super) struct Qemu {
    child: Child,
}

impl Qemu {
    /// Starts the machine.
    pub(super) fn start(
        spec: &HostSpec,
        artefacts: &Artefacts,
        initramfs: OwnedFd,
        console: &Console,
    ) -> Result<(Qemu, Sockets), HostError> {
        let local = |action| move |source| HostError::Local { action, source };
        let (agent, port) = UnixStream::pair().map_err(local("make the agent's port"))?;
        let (monitor, control) = UnixStream::pair().map_err(local("make QEMU's monitor"))?;
        let (reader, writer) = io::pipe().map_err(local("make the host's console"))?;
        let mut command = artefacts.qemu.command();
        let descriptors = Descriptors {
            initramfs: initramfs.as_raw_fd(),
            port: port.as_raw_fd(),
            control: control.as_raw_fd(),
        };
        command.args(arguments(spec, artefacts, &descriptors));
        command.stdin(Stdio::null());
        command.stdout(writer.try_clone().map_err(local("make the host's console"))?).stderr(writer);
        process::bound_to_this_thread(&mut command, vec![initramfs, port.into(), control.into()]);
        let child = command.spawn().map_err(HostError::Start)?;
        console.follow(reader);
        Ok((Qemu { child }, Sockets { agent, monitor }))
    }

    /// CPU time it has used.
    pub(super) fn cpu_time(&self) -> Duration {
        cpu::time(&self.child)
    }

    /// Waits for a QEMU that is ending by itself, and says how it did.
    pub(super) fn end(&mut self) -> String {
        self.child.wait().map_or_else(|e| e.to_string(), |status| status.to_string())
    }

    /// Ends it, if it has not ended by itself.
    pub(super) fn kill(&mut self) {
        // Either fails only for a child that is no more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What QEMU inherits.
struct Descriptors {
    initramfs: RawFd,
    port: RawFd,
    control: RawFd,
}

fn arguments(spec: &HostSpec, artefacts: &Artefacts, descriptors: &Descriptors) -> Vec<OsString> {
    let Descriptors { initramfs, port, control } = descriptors;
    // The lab's own as an ELF image: QEMU enters it where PVH does, and nothing is to be decompressed.
    let kernel = artefacts.stock(spec.kernel).map_or_else(|| artefacts.kernel.vmlinux(), Debian::vmlinuz);
    let (accelerator, tsc_khz) = match spec.clock {
        Clock::Time => ("-accel tcg,thread=multi", tsc::khz()),
        Clock::Instructions => ("-accel tcg,thread=single -icount shift=0,sleep=off", 1_000_000),
    };
    let mut append = format!("{APPEND} tsc_early_khz={tsc_khz}");
    if !spec.bind {
        append = format!("{append} {NO_BIND}");
    }
    append = format!("{append} {}", spec.append);
    let SlotsOf { nvme, nic, random, serial } = SLOTS;
    // Without xsave: QEMU 7.2 lets a nested guest set XCR0 behind KVM's back, which then tells it of a state size
    // that is too small, and the guest overwrites its own memory. No CPU has AVX without it, and Linux 7 counts on that.
    // Without erms and fsrm: kernels that have them clear and copy pages with `rep stosb` and `rep movsb`, which TCG does byte by
    // byte. On a page that held code it looks at all of that code for each byte; a third of a guest's boot went there.
    // Without la57: with five levels of page tables a guest's translation takes 35 reads instead of 24.
    let mut all = words(accelerator);
    all.extend(words(
        "-M q35 -cpu max,xsave=off,avx=off,erms=off,fsrm=off,la57=off -nodefaults -display none -no-reboot",
    ));
    all.extend(words(&format!("-smp {} -m {}", spec.cpus_of_the_machine(), spec.memory_mib)));
    all.extend(words("-chardev stdio,id=console,signal=off -serial chardev:console"));
    let aw_bits = spec.aw_bits;
    all.extend(words(&format!("-device intel-iommu,intremap=on,device-iotlb=on,aw-bits={aw_bits}")));
    all.push("-drive".into());
    let mut drive = OsString::from("if=none,id=disk,format=raw,snapshot=on,file=");
    drive.push(escaped(&artefacts.disk.image()));
    all.push(drive);
    all.extend(words(&format!("-device nvme,drive=disk,serial=lab,addr={nvme:#x}")));
    all.extend(words(&format!("-netdev user,id=net -device e1000e,netdev=net,romfile=,addr={nic:#x}")));
    all.extend(words(&format!("-device virtio-rng-pci,addr={random:#x}")));
    all.extend(words(&format!("-device virtio-serial-pci,addr={serial:#x}")));
    all.extend(words(&format!("-chardev socket,id=control,fd={control} -mon chardev=control,mode=control")));
    all.extend(words(&format!("-chardev socket,id=agent,fd={port}")));
    all.extend(words(&format!("-device virtserialport,chardev=agent,name={PORT}")));
    let distribution = artefacts.distribution().map(Distribution::image).unwrap_or_default();
    let paths = [(KERNEL, kernel.as_path()), (DISTRIBUTION, &distribution)];
    all.extend(words(&spec.qemu).into_iter().map(|word| with_paths(&word, &paths)));
    all.push("-kernel".into());
    all.push(kernel.into());
    all.extend(words(&format!("-initrd /proc/self/fd/{initramfs} -append")));
    all.push(append.into());
    all
}

/// A word of arguments, with a path in the place of a name that stands for it.
fn with_paths(word: &OsStr, paths: &[(&str, &Path)]) -> OsString {
    let found = paths.iter().find_map(|(name, path)| Some((word.to_str()?.split_once(name)?, path)));
    let Some(((before, after), path)) = found else { return word.into() };
    let mut all = OsString::from(before);
    all.push(escaped(path));
    all.push(after);
    all
}

/// PCI slots on the root bus. The first two are `NVME` and `NIC`.
struct SlotsOf {
    nvme: u8,
    nic: u8,
    random: u8,
    serial: u8,
}

const SLOTS: SlotsOf = SlotsOf { nvme: 1, nic: 2, random: 0x1d, serial: 0x1e };

fn words(line: &str) -> Vec<OsString> {
    line.split_whitespace().map(OsString::from).collect()
}

/// A path as a value of a QEMU option, in which a comma is written twice.
fn escaped(path: &Path) -> OsString {
    let absolute = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    absolute.to_string_lossy().replace(',', ",,").into()
}

#[cfg(test)]
#[path = "qemu_test.rs"]
mod tests;
