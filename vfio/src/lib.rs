//! Host devices for a guest: discovery, preflight, the IOMMU address space, and the PCI functions a guest sees.
//!
//! - [`sysfs`] looks devices up by address; [`preflight`] says all that is wrong with them before anything is opened.
//! - [`session`] opens them: one [`Container`] (IOMMU address space) for the whole machine, which maps guest RAM as a
//!   [`memory::pin::DmaMapper`] and tells its [`Aperture`] before the guest's memory is laid out.
//! - [`function`] is the device as the guest sees it: a [`devices::pci::PciFunction`] with virtual BARs, filtered
//!   capabilities and interrupts wired vector by vector.
//!
//! Order, and who outlives whom: container, then its groups (each told to KVM), then devices, then DMA maps, then
//! functions. A guest reboot resets functions and leaves the rest alone. Nobody else opens /dev/vfio.
//!
//! # What comes from vfio-ioctls
//!
//! vfio-bindings is the kernel ABI. vfio-ioctls opens the container and checks its version and type. The steps after
//! that are ours, in `sys`, because that crate (0.10.0) says too little when one fails, and stops the process in cases
//! that are not ours to die of:
//! - `VfioGroup` drops the errno of `GET_STATUS` and `SET_CONTAINER`; a failed device open leaves its group attached.
//! - `VfioDevice` describes regions by position, so that one failing region shifts the others; its reads leave the
//!   buffer as it was on errors; its interrupts start at vector 0 and cannot be added one by one; its `reset` has no
//!   result; its `Drop` unwraps, so a device that disappears while it is open aborts the monitor.
//! - DMA maps lose their range, and `VFIO_IOMMU_GET_INFO` (aperture, page sizes, map limit) is not there.

mod area;
pub mod container;
mod device;
pub mod function;
mod info;
mod mapping;
pub mod preflight;
pub mod session;
mod sys;
pub mod sysfs;
mod vectors;

pub use container::{Aperture, Container};
pub use function::PassthroughFunction;
pub use preflight::PreflightError;
pub use session::{OpenError, Passthrough, ResetError};
pub use sysfs::{Host, HostDevice};
