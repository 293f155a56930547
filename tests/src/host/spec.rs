//! What a lab host is made of.

use std::path::PathBuf;

/// Where a host has its NVMe. Its slot is fixed, so that commands may name it.
pub(crate) const NVME: &str = "0000:00:01.0";
/// Where a host has its e1000e.
pub(crate) const NIC: &str = "0000:00:02.0";

/// The kernel a host runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum HostKernel {
    /// The lab's own, with CMA, iommufd and fault injection.
    Lab,
    /// Debian's cloud kernel, 6.12: no CMA, VFIO and KVM as modules.
    Debian,
    /// The same of Debian 12, 6.1.
    #[value(name = "debian-6.1")]
    Debian61,
    /// The newest of the backports, 7.x: with CMA.
    #[value(name = "debian-7")]
    Debian7,
}

/// What the clocks of a host count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clock {
    /// Time, on as many CPUs as it has.
    Time,
    /// Instructions of one CPU, one a nanosecond; those of its guests too. Nothing that the machine does meanwhile matters.
    Instructions,
}

/// Stands for the path of a disk with a Debian.
pub(super) const DISTRIBUTION: &str = "DISTRIBUTION";

/// A machine to boot. Cases with equal specs share a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostSpec {
    pub(crate) kernel: HostKernel,
    pub(crate) memory_mib: u32,
    /// Those that its commands may run on.
    pub(crate) cpus: u32,
    /// Width of the IOMMU's addresses, in bits: 39 or 48.
    pub(crate) aw_bits: u8,
    /// Added to the kernel command line; of a repeated option the last counts.
    pub(crate) append: String,
    /// Added to QEMU's arguments, split at white space, with the path of the host's kernel for `HOST_KERNEL`, and that of a disk with a
    /// Debian for `DISTRIBUTION`. PCI slots 3 to 0x1c are free.
    pub(crate) qemu: String,
    /// Bind the NVMe and the NIC to vfio-pci.
    pub(crate) bind: bool,
    /// What its clocks count.
    pub(crate) clock: Clock,
    /// Files and directories to put under /lab.
    pub(crate) add: Vec<PathBuf>,
}

impl Default for HostSpec {
    fn default() -> HostSpec {
        HostSpec {
            kernel: HostKernel::Lab,
            memory_mib: 3072,
            cpus: 2,
            aw_bits: 48,
            append: String::new(),
            qemu: String::new(),
            bind: true,
            clock: Clock::Time,
            add: Vec::new(),
        }
    }
}

impl HostSpec {
    /// This machine with a Debian, as cloud images have it, on /dev/vda.
    pub(crate) fn with_distribution(self) -> HostSpec {
        self.qemu(&format!(
            "-drive if=none,format=raw,snapshot=on,id=distribution,file={DISTRIBUTION} -device virtio-blk-pci,drive=distribution"
        ))
    }

    /// Those for commands, and the first one, which is kept free unless it is the only one (docs/lab.md).
    pub(super) fn cpus_of_the_machine(&self) -> u32 {
        if self.cpus == 1 { 1 } else { self.cpus + 1 }
    }

    /// Whether it has that.
    pub(crate) fn has_distribution(&self) -> bool {
        self.qemu.contains(DISTRIBUTION)
    }

    /// This machine with another kernel.
    pub(crate) fn kernel(self, kernel: HostKernel) -> HostSpec {
        HostSpec { kernel, ..self }
    }

    /// This machine with `mib` MiB of memory.
    pub(crate) fn memory(self, mib: u32) -> HostSpec {
        HostSpec { memory_mib: mib, ..self }
    }

    /// This machine with an IOMMU of `bits` address bits.
    pub(crate) fn aw_bits(self, bits: u8) -> HostSpec {
        HostSpec { aw_bits: bits, ..self }
    }

    /// This machine with `options` on its kernel command line.
    pub(crate) fn append(mut self, options: &str) -> HostSpec {
        self.append = format!("{} {options}", self.append).trim().to_owned();
        self
    }

    /// This machine with more QEMU arguments.
    pub(crate) fn qemu(mut self, arguments: &str) -> HostSpec {
        self.qemu = format!("{} {arguments}", self.qemu).trim().to_owned();
        self
    }

    /// This machine with its devices left to its own drivers.
    pub(crate) fn unbound(self) -> HostSpec {
        HostSpec { bind: false, ..self }
    }

    /// This machine with one CPU, which is enough for most.
    pub(crate) fn one_cpu(self) -> HostSpec {
        HostSpec { cpus: 1, ..self }
    }

    /// This machine with one CPU, whose clock counts instructions.
    pub(crate) fn counting_instructions(self) -> HostSpec {
        HostSpec { cpus: 1, clock: Clock::Instructions, ..self }
    }

    /// This machine with guest memory in pages of 4 KiB, as kernels have it by default.
    pub(crate) fn small_pages(self) -> HostSpec {
        self.append("transparent_hugepage_shmem=never")
    }

    /// This machine with almost all of the memory above 4 GiB in CMA: what is populated there lands in CMA.
    pub(crate) fn mostly_cma(self) -> HostSpec {
        self.small_pages().memory(2560).append("cma=900M").qemu("-machine max-ram-below-4g=1G")
    }

    /// This machine with ZONE_MOVABLE instead of CMA, for kernels that have none: what is populated lands there.
    pub(crate) fn mostly_movable(self) -> HostSpec {
        self.small_pages().memory(2560).append("movablecore=900M").qemu("-machine max-ram-below-4g=1G")
    }
}
