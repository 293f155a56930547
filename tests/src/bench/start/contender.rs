//! Who is measured: the bare KVM calls, vmm, and QEMU's smallest machine. Firecracker and Cloud Hypervisor are in no
//! package of Debian's. QEMU's q35 boots through a BIOS, which takes a CPU that runs real mode, and hence is left out.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::MEMORY_MIB;
use super::guest::Guest;
use crate::product::{self, ProductError};

/// The name of the contender that the others are compared with.
pub(super) const BARE: &str = "bare KVM calls";
pub(super) const VMM: &str = "vmm";
const QEMU: &str = "qemu-system-x86_64";
/// No device of QEMU's that the guest does not use, and none of its defaults.
const MICROVM: &str = "microvm,accel=kvm,acpi=off,pic=off,pit=off,rtc=off,isa-serial=on";
/// Everything that KVM has but an MSR that not every KVM lets QEMU set.
const MICROVM_CPU: &str = "host,-arch-capabilities";

/// Somebody who runs a guest.
pub(super) struct Contender {
    name: String,
    kind: Kind,
}

enum Kind {
    Bare(PathBuf),
    Vmm(PathBuf),
    Microvm,
}

impl Contender {
    /// The bare calls first. What is not there yet is built: `vmm` too, unless these binaries of it are to be measured.
    pub(super) fn all(binaries: &[PathBuf]) -> Result<Vec<Contender>, ProductError> {
        let mut all =
            vec![Contender { name: BARE.to_owned(), kind: Kind::Bare(product::program("bare_start")?) }];
        let vmm = |name, path| Contender { name, kind: Kind::Vmm(path) };
        if binaries.is_empty() {
            all.push(vmm(VMM.to_owned(), product::release()?));
        }
        all.extend(binaries.iter().map(|path| vmm(format!("{VMM} {}", path.display()), path.clone())));
        all.push(Contender { name: "QEMU microvm".to_owned(), kind: Kind::Microvm });
        Ok(all)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Its binary, if it is vmm.
    pub(super) fn vmm(&self) -> Option<&Path> {
        if let Kind::Vmm(path) = &self.kind { Some(path) } else { None }
    }

    /// Whether a thread of this name does nothing but run the guest.
    pub(super) fn runs_guest(&self, thread: &str) -> bool {
        match self.kind {
            Kind::Bare(_) => true,
            Kind::Vmm(_) => thread.starts_with("vcpu"),
            Kind::Microvm => thread.starts_with("CPU "),
        }
    }

    /// What runs `guest`; or why it cannot.
    pub(super) fn command(&self, guest: &Guest) -> Result<Command, String> {
        let memory = format!("{MEMORY_MIB}M");
        let mut command = match &self.kind {
            Kind::Bare(program) | Kind::Vmm(program) => Command::new(program),
            Kind::Microvm => Command::new(QEMU),
        };
        match &self.kind {
            Kind::Bare(_) => command.arg(&guest.code),
            Kind::Vmm(_) => command.arg("run").arg("--kernel").arg(&guest.kernel).args([
                "--memory",
                &memory,
                "--debug-exit",
            ]),
            Kind::Microvm => command
                .args(["-M", MICROVM, "-cpu", MICROVM_CPU, "-m", &memory, "-name", "guest,debug-threads=on"])
                .args(["-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio"])
                .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=4", "-kernel"])
                .arg(&guest.kernel),
        };
        Ok(command)
    }
}
