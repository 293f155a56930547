//! Every precondition of a machine, checked before anything is allocated, all that is wrong reported at once.

use std::sync::Arc;

use memory::layout::AddressLimits;
use memory::{Layout, pin};
use vfio::{DeviceRequest, PreflightError, Prepared, Request};

use crate::boot::{self, Initrd, Kernel, Payload};
use crate::hypervisor::Hypervisor;
use crate::machine::seats::Guest;
use crate::numa;
use crate::problem::{Class, Problems};
use crate::spec::{InitrdSource, MachineSpec, SpecError};
use crate::virtio::VirtioDevices;
use crate::virtio::plugged::{self, Plugged};

/// A machine that can be built, as far as can be known.
pub struct Plan {
    pub(crate) spec: MachineSpec,
    pub(crate) hypervisor: Hypervisor,
    pub(crate) payload: Payload,
    /// The devices to pass through, if any are, those that the guest confines among them.
    pub(crate) devices: Option<Prepared>,
    /// What the guest sees of them.
    pub(crate) guests: Vec<Guest>,
    /// The virtio devices, with what they need of the host.
    pub(crate) virtio: VirtioDevices,
    /// Those behind root ports.
    pub(crate) plugged: Vec<Arc<Plugged>>,
}

impl Plan {
    /// Checks everything, whatever `problems` there are already.
    pub fn check(mut spec: MachineSpec, mut problems: Problems) -> Result<Self, Problems> {
        let hypervisor = problems.keep(Class::Host, Hypervisor::open());
        let has_memory = check_spec(&spec, hypervisor.as_ref(), &mut problems);

        // What the CPU allows; what the IOMMU allows is known when the devices are open.
        let limits = hypervisor.as_ref().map(|hypervisor| AddressLimits::cpu_only(hypervisor.phys_bits()));
        let layout = limits.as_ref().filter(|_| has_memory).and_then(|limits| {
            problems.keep(Class::Usage, Layout::with_room(spec.memory, spec.room(), limits))
        });
        let payload = check_payload(&spec, layout.as_ref(), &mut problems);

        // Memory a device may touch is pinned, which takes more than memory that is only used. What the guest maps for a device that it
        // confines is pinned then.
        let admit = if spec.vfio.unconfined().is_empty() { pin::admit_unpinned } else { pin::admit };
        let guest = |device: &DeviceRequest| Guest { host: device.address, port: device.port };
        let guests = spec.vfio.devices.iter().map(guest).collect();
        let devices = check_devices(std::mem::take(&mut spec.vfio), &mut problems);
        let virtio = spec.virtio.open(spec.cpus, &mut problems);
        if let (Some(mut layout), Some(limits)) = (layout, limits) {
            problems.keep(Class::Usage, layout.add_persistent(&virtio.persistent(), &limits));
        }
        let plugged = plugged::open(&spec.plugged, spec.cpus, &mut problems);
        let pluggable = spec.pluggable.map_or(0, |pluggable| pluggable.plugged);
        for error in admit(spec.memory.saturating_add(pluggable), spec.backing) {
            problems.add(Class::Memory, error);
        }

        match (hypervisor, payload) {
            (Some(hypervisor), Some(payload)) if problems.0.is_empty() => {
                Ok(Self { spec, hypervisor, payload, devices, guests, virtio, plugged })
            }
            _ => Err(problems),
        }
    }
}

/// Checks what makes no sense on any host, or not with this one's KVM and CPUs. Returns whether there is memory that can be laid out.
pub fn check_spec(spec: &MachineSpec, hypervisor: Option<&Hypervisor>, problems: &mut Problems) -> bool {
    if let Some(most) = hypervisor.map(Hypervisor::max_vcpus)
        && spec.cpus > most
    {
        problems.add(Class::Usage, SpecError::TooManyCpus { asked: spec.cpus, most });
    }
    spec.placement.check(problems);
    numa::check(&spec.numa, problems);
    spec.validate(problems)
}

/// Opens what the guest boots, and checks that it fits into its memory. `None`: something is wrong with it, or no kernel was
/// found.
pub fn check_payload(
    spec: &MachineSpec,
    layout: Option<&Layout>,
    problems: &mut Problems,
) -> Option<Payload> {
    let kernel = spec.kernel.as_ref().and_then(|path| problems.keep(Class::Usage, Kernel::open(path)));
    let initrd = spec.initrd.as_ref().map(|source| match source {
        InitrdSource::File(path) => Initrd::open(path),
        InitrdSource::Made(parts) => Initrd::made(parts, "built-in initramfs"),
    });
    let initrd = problems.keep(Class::Usage, initrd.transpose())?;
    let payload = Payload { kernel: kernel?, initrd, cmdline: spec.cmdline.clone() };
    let errors = layout.map(|layout| boot::check(&layout.ram, &[layout.ecam], &payload)).unwrap_or_default();
    let fits = errors.is_empty();
    errors.into_iter().for_each(|error| problems.add(Class::Usage, error));
    fits.then_some(payload)
}

/// Checks devices that are to be passed through. `None`: there are none, or something is wrong with them.
pub fn check_devices(request: Request, problems: &mut Problems) -> Option<Prepared> {
    match vfio::preflight::check(request) {
        Ok(prepared) => Some(prepared).filter(|prepared| !prepared.is_empty()),
        Err(errors) => {
            for error in errors {
                let typed = matches!(error, PreflightError::Request(_));
                problems.add(if typed { Class::Usage } else { Class::Host }, error);
            }
            None
        }
    }
}
