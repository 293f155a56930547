//! Host devices for a guest: discovery, preflight, the IOMMU address space, and the PCI functions a guest sees.
//!
//! - [`sysfs`] looks devices up by address; [`preflight`] says all that is wrong with them before anything is opened,
//!   and chooses between the kernel's two interfaces ([`Backend`]).
//! - [`session`] opens them: one [`DmaSpace`] (IOMMU address space) for the whole machine, which maps guest RAM as a
//!   [`memory::pin::DmaMapper`] and tells its [`Aperture`] before the guest's memory is laid out; and one for each that the guest
//!   confines, which has what the guest maps ([`Window`]).
//! - [`function`] is the device as the guest sees it: a [`devices::pci::PciFunction`] with virtual BARs, filtered
//!   capabilities and interrupts wired vector by vector.
//!
//! Order, and who outlives whom: address space, then its devices or groups (each told to KVM), then DMA maps, then
//! functions. A guest reboot resets functions and leaves the rest alone. Nobody else opens /dev/vfio or /dev/iommu.
//!
//! vfio-bindings and iommufd-bindings are the kernel ABI; the ioctls are ours, in `sys`. The crates with ioctls drop
//! error numbers and ranges, describe regions by position, and unwrap in `Drop`, so that a device that disappears
//! while it is open would abort the monitor.

mod aer;
mod affected;
mod area;
pub mod bind;
mod container;
mod device;
mod dma;
pub mod function;
mod handed;
mod holders;
mod info;
mod interrupts;
mod ioas;
mod kvm;
mod mapping;
mod mark;
mod nodes;
pub mod notice;
pub mod preflight;
pub mod readiness;
mod release;
mod request;
pub mod reset;
pub mod session;
mod store;
pub mod survey;
mod sys;
pub mod sysfs;
mod text;
pub mod usage;
mod vectors;
mod window;

pub use bind::{BindError, Binder, Bound};
pub use container::Container;
pub use dma::{Backend, DmaSpace};
pub use function::PassthroughFunction;
pub use handed::HandedError;
pub use holders::OpenNodes;
pub use info::Aperture;
pub use ioas::Ioas;
pub use notice::{DeviceLoss, Notice};
pub use preflight::{PreflightError, Prepared};
pub use request::{Company, DeviceRequest, Request, RequestError};
pub use reset::BusResetError;
pub use session::{OpenError, Passthrough, ResetError};
pub use sysfs::{Host, HostDevice};
pub use usage::Use;
pub use window::Window;
