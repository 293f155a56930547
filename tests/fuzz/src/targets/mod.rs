//! All targets.

mod api;
mod driver;
mod host;
mod kernel;
mod legacy;
mod machine;
mod msix;
mod passthrough;
mod pci;
mod pin;
mod proc;
mod qcow2;
mod virtio;
mod virtqueue;

use crate::Target;

/// Every target there is.
pub const TARGETS: &[Target] = &[
    Target { name: "qcow2", about: "images of disks, opened, read, written and grown", run: qcow2::run },
    Target { name: "virtqueue", about: "rings, split and packed, of a hostile driver", run: virtqueue::run },
    Target { name: "virtio_blk", about: "the driver of a disk", run: virtio::blk },
    Target {
        name: "virtio_net",
        about: "the driver of a network card, and what comes over the wire",
        run: virtio::net,
    },
    Target { name: "virtio_rng", about: "the driver of an entropy device", run: virtio::rng },
    Target {
        name: "virtio_console",
        about: "the driver of a console, and who reads and writes there",
        run: virtio::console,
    },
    Target {
        name: "virtio_vsock",
        about: "the driver of a socket device, and clients of the host",
        run: virtio::vsock,
    },
    Target { name: "virtio_balloon", about: "the driver of a balloon", run: virtio::balloon },
    Target { name: "virtio_iommu", about: "the driver of an IOMMU", run: virtio::iommu },
    Target { name: "virtio_mem", about: "the driver of memory that comes and goes", run: virtio::mem },
    Target { name: "virtio_pmem", about: "the driver of persistent memory", run: virtio::pmem },
    Target {
        name: "pci",
        about: "configuration space, BARs that move, bridges, cards that come and go",
        run: pci::run,
    },
    Target { name: "msix", about: "MSI-X tables and MSI capabilities", run: msix::run },
    Target {
        name: "passthrough",
        about: "a passed-through device's configuration space, and its guest",
        run: passthrough::run,
    },
    Target {
        name: "legacy",
        about: "serial port, interrupt controller, clock and legacy ports",
        run: legacy::run,
    },
    Target {
        name: "kernel",
        about: "bzImages and ELF files, with an initrd and a command line",
        run: kernel::run,
    },
    Target { name: "api", about: "connections of clients: HTTP, and JSON in it", run: api::run },
    Target { name: "machine_file", about: "machines in TOML", run: machine::file },
    Target { name: "machine_words", about: "machines on command lines", run: machine::words },
    Target { name: "proc", about: "texts of the kernel's, each by itself", run: proc::run },
    Target { name: "host", about: "/sys, /proc and debugfs of a host", run: host::run },
    Target { name: "pin", about: "what a kernel and a helper do while memory is pinned", run: pin::run },
];
