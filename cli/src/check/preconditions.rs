//! `vmm check` without `--pin`: what a start with these devices and this memory needs, a line for each, with what to do
//! about what is missing. Devices that nothing is in the way of are opened, which resets them, to ask their IOMMU.

use memory::bytes::Bytes;
use memory::layout::AddressLimits;
use memory::pin::{self, DmaMapper};
use memory::{Backing, GuestRam, Layout};
use vfio::{Aperture, HostDevice, Passthrough, PreflightError, Prepared, Request};
use vmm::hypervisor::Hypervisor;
use vmm::{Class, InitrdSource, MachineSpec, Problems, preflight};

use super::findings::Findings;
use super::phys_bits;
use crate::args::CheckArgs;
use crate::config::{Config, Initrd};
use crate::{default_kernel, run};

/// Checks; returns the exit code.
pub(super) fn check(args: &CheckArgs) -> Result<u8, Problems> {
    let mut unreadable = Problems::default();
    let config = args.machine.read(&mut unreadable).value;
    let memory = config.memory.0;
    let request = config.vfio_request(&mut unreadable);
    if !unreadable.0.is_empty() {
        return Err(unreadable);
    }
    let mut findings = Findings::new(args.json);

    let hypervisor = findings.keep(Class::Host, "kvm", Hypervisor::open());
    if hypervisor.is_some() {
        findings.ok("kvm", "KVM can be used");
    }
    let limits = AddressLimits::cpu_only(hypervisor.as_ref().map_or_else(phys_bits, Hypervisor::phys_bits));
    check_spec(&config, &request, hypervisor.as_ref(), &limits, &mut findings);

    let prepared = match vfio::preflight::check(request) {
        Ok(prepared) => Some(prepared).filter(|prepared| !prepared.is_empty()),
        Err(errors) => {
            for error in errors {
                let typed = matches!(error, PreflightError::Request(_));
                findings.problem(if typed { Class::Usage } else { Class::Host }, "devices", &error);
            }
            None
        }
    };

    // What the guest maps for a device that it confines is pinned then.
    let pinned = config.vfio.iter().any(|device| !device.iommu);
    let admit = if pinned { pin::admit } else { pin::admit_unpinned };
    let short = admit(memory, config.backing());
    if short.is_empty() {
        let how = if pinned { "pinned" } else { "had" };
        findings.ok("memory", format_args!("{} of memory can be {how}", Bytes(memory)));
    }
    short.iter().for_each(|error| findings.problem(Class::Memory, "memory", error));

    match prepared {
        Some(prepared) => {
            for device in prepared.devices() {
                findings.ok("devices", line(device));
            }
            let (shared, confined) = prepared.split();
            for group in confined {
                if let Some(passthrough) =
                    findings.keep(Class::Host, "devices", Passthrough::open(group, None))
                {
                    findings.ok(
                        "iommu",
                        format_args!("{}, for what the guest maps", aperture(&passthrough.aperture())),
                    );
                }
            }
            // A pool that is too small has been told of.
            let backing = if short.is_empty() { config.backing() } else { Backing::Pages };
            if shared.is_empty() {
                findings.keep(Class::Usage, "memory", Layout::new(memory, &limits));
            } else {
                check_iommu(shared, memory, backing, limits, &mut findings);
            }
        }
        None => {
            findings.keep(Class::Usage, "memory", Layout::new(memory, &limits));
        }
    }
    Ok(findings.end())
}

/// What makes no sense on any host or not on this one; and what the guest boots, and whether there is room for it.
fn check_spec(
    config: &Config,
    request: &Request,
    hypervisor: Option<&Hypervisor>,
    limits: &AddressLimits,
    findings: &mut Findings,
) {
    let mut problems = Problems::default();
    let found = || problems.keep(Class::Host, default_kernel::find()).map(|kernel| kernel.path);
    let kernel = config.kernel.clone().or_else(found);
    let initrd = match config.initrd() {
        Initrd::File(path) => Some(InitrdSource::File(path.to_owned())),
        Initrd::BuiltIn | Initrd::None => None,
    };
    let spec = MachineSpec { kernel, initrd, vfio: request.clone(), ..run::spec(config, &mut problems) };
    preflight::check_spec(&spec, hypervisor, &mut problems);
    // That memory cannot be laid out is said elsewhere.
    let layout = Layout::new(spec.memory, limits).ok();
    let payload = preflight::check_payload(&spec, layout.as_ref(), &mut problems);
    if let (Some(path), Some(_)) = (spec.kernel, payload) {
        findings.ok("machine", format_args!("{} can be booted", path.display()));
    }
    problems.0.iter().for_each(|problem| findings.problem(problem.class, "machine", problem.what.as_ref()));
}

/// What is known only when the devices are open.
fn check_iommu(
    prepared: Prepared,
    memory: u64,
    backing: Backing,
    limits: AddressLimits,
    findings: &mut Findings,
) {
    let Some(passthrough) = findings.keep(Class::Host, "devices", Passthrough::open(prepared, None)) else {
        return;
    };
    findings.ok("iommu", aperture(&passthrough.aperture()));
    let limits = AddressLimits { iova: Some(passthrough.aperture().ranges.clone()), ..limits };
    let Some(layout) = findings.keep(Class::Usage, "memory", Layout::new(memory, &limits)) else { return };
    let Some(ram) = findings.keep(Class::Memory, "memory", GuestRam::backed(&layout, backing)) else {
        return;
    };
    let mapper: &dyn DmaMapper = passthrough.space().as_ref();
    if findings.keep(Class::Memory, "iommu", pin::check_room(&ram, mapper)).is_some() {
        findings.ok("iommu", format_args!("the IOMMU can map {}", Bytes(memory)));
    }
}

/// `0000:01:00.0 is bound to vfio-pci, IOMMU group 12, reset by flr, bus`
fn line(device: &HostDevice) -> String {
    let HostDevice { address, reset_methods, .. } = device;
    let driver = device.driver.as_deref().unwrap_or("no driver");
    let group = device.group.as_ref().map_or_else(|| "none".to_owned(), |group| group.id.to_string());
    let reset = match reset_methods.as_slice() {
        [] => "cannot be reset by itself".to_owned(),
        methods => format!("reset by {}", methods.join(", ")),
    };
    format!("{address} is bound to {driver}, IOMMU group {group}, {reset}")
}

/// `the IOMMU translates 0x0..=0xfedfffff, 0xfef00000..=0x7fffffffff`
fn aperture(aperture: &Aperture) -> String {
    let ranges: Vec<String> = aperture.ranges.iter().map(|range| format!("{range:#x?}")).collect();
    match ranges.as_slice() {
        [] => "the IOMMU does not say what it translates".to_owned(),
        ranges => format!("the IOMMU translates {}", ranges.join(", ")),
    }
}
