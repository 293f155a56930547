//! All targets.

mod driver;
mod legacy;
mod msix;
mod passthrough;
mod pci;
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
];
