//! Who is measured: the bare KVM calls, vmm, and QEMU's smallest machine. Firecracker and Cloud Hypervisor are in no
//! package of Debian's. QEMU's q35 boots through a BIOS, which takes a CPU that runs real mode, and hence is left out.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::MEMORY_MIB;
use super::guest::Guest;
use crate::product::{self, ProductError};
use crate::setup::Qemu;

/// The name of what leaves nothing in guest memory but the guest.
pub(super) const BARE: &str = "bare KVM calls";
pub(super) const VMM: &str = "vmm";
/// What the name of a contender ends with whose sandbox is on; that of the same without has all but this.
pub(super) const SANDBOXED: &str = " --sandbox on";
/// No device of QEMU's that the guest does not use, and none of its defaults.
const MICROVM: &str = "microvm,accel=kvm,acpi=off,pic=off,pit=off,rtc=off,isa-serial=on";
/// Everything that KVM has but an MSR that not every KVM lets QEMU set.
const MICROVM_CPU: &str = "host,-arch-capabilities";

/// Somebody who runs a guest.
pub(super) struct Contender {
    name: String,
    /// Whose times its own are told in: the bare calls that leave as much in guest memory.
    beside: Option<String>,
    kind: Kind,
}

enum Kind {
    Bare { program: PathBuf, initrd: Option<PathBuf> },
    Vmm { binary: PathBuf, initrd: Initrd, sandbox: &'static str },
    Microvm(Qemu),
}

/// What vmm gives its guest to boot from.
#[derive(Clone, Copy)]
enum Initrd {
    /// Its own binary, 6 MiB that this guest does not look at.
    BuiltIn,
    /// Nothing, as the others.
    None,
}

impl Contender {
    /// Each after those that it is compared with. What is not there yet is built: `vmm` too, unless these binaries of it are to be
    /// measured.
    pub(super) fn all(binaries: &[PathBuf], qemu: Qemu) -> Result<Vec<Contender>, ProductError> {
        let program = product::program("bare_start")?;
        let bare = |name: &str, initrd| Contender {
            name: name.to_owned(),
            beside: None,
            kind: Kind::Bare { program: program.clone(), initrd },
        };
        let mut all = vec![bare(BARE, None)];
        let mut vmm = |name: String, binary: PathBuf| {
            let run = |name: String, beside: &str, initrd, sandbox| Contender {
                name,
                beside: Some(beside.to_owned()),
                kind: Kind::Vmm { binary: binary.clone(), initrd, sandbox },
            };
            let empty = format!("{name} --initrd none");
            all.push(run(empty.clone(), BARE, Initrd::None, "off"));
            all.push(run(format!("{empty}{SANDBOXED}"), BARE, Initrd::None, "on"));
            let laden = format!("{BARE}, {name} as initrd");
            all.push(bare(&laden, Some(binary.clone())));
            all.push(run(name, &laden, Initrd::BuiltIn, "off"));
        };
        if binaries.is_empty() {
            vmm(VMM.to_owned(), product::release()?);
        }
        binaries.iter().for_each(|path| vmm(format!("{VMM} {}", path.display()), path.clone()));
        let (name, beside) = ("QEMU microvm".to_owned(), Some(BARE.to_owned()));
        all.push(Contender { name, beside, kind: Kind::Microvm(qemu) });
        Ok(all)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The name of those that it is compared with.
    pub(super) fn beside(&self) -> Option<&str> {
        self.beside.as_deref()
    }

    /// Its binary, if it is vmm.
    pub(super) fn vmm(&self) -> Option<&Path> {
        if let Kind::Vmm { binary, .. } = &self.kind { Some(binary) } else { None }
    }

    /// Whether a thread of this name does nothing but run the guest.
    pub(super) fn runs_guest(&self, thread: &str) -> bool {
        match self.kind {
            Kind::Bare { .. } => true,
            Kind::Vmm { .. } => thread.starts_with("vcpu"),
            Kind::Microvm(_) => thread.starts_with("CPU "),
        }
    }

    /// What runs `guest`.
    pub(super) fn command(&self, guest: &Guest) -> Command {
        let memory = format!("{MEMORY_MIB}M");
        match &self.kind {
            Kind::Bare { program, initrd } => {
                let mut command = Command::new(program);
                command.arg(&guest.code).args(initrd);
                command
            }
            Kind::Vmm { binary, initrd, sandbox } => {
                let mut command = Command::new(binary);
                command.arg("run").arg("--kernel").arg(&guest.kernel);
                // The others have none.
                command.args(["--memory", &memory, "--debug-exit", "--sandbox", sandbox]);
                if let Initrd::None = initrd {
                    command.args(["--initrd", "none"]);
                }
                command
            }
            Kind::Microvm(qemu) => {
                let mut command = qemu.command();
                command.args(["-M", MICROVM, "-cpu", MICROVM_CPU, "-m", &memory]);
                command.args(["-name", "guest,debug-threads=on", "-nodefaults", "-no-user-config"]);
                command.args(["-display", "none", "-serial", "stdio"]);
                command
                    .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=4", "-kernel"])
                    .arg(&guest.kernel);
                command
            }
        }
    }
}
