//! The machine: KVM, vCPUs, interrupt routing, boot, ACPI and the lifecycle that holds them together.
//!
//! [`Plan::check`] looks at everything that can be known to be wrong, [`Machine::build`] makes the machine,
//! [`Machine::run`] runs it; [`api`] lets others do both. This crate prints nothing: an [`Observer`] is told.

pub mod acpi;
pub mod api;
pub mod boot;
pub mod console;
pub mod coredump;
pub mod hypervisor;
pub mod listener;
pub mod machine;
pub mod numa;
pub mod preflight;
pub mod problem;
mod shortage;
pub mod spec;
pub mod virtio;
mod wake;

pub use machine::placement::Placement;
pub use machine::{Console, Event, Machine, Observer, Outcome};
pub use preflight::Plan;
pub use problem::{Class, Problem, Problems};
pub use spec::{InitrdSource, MachineSpec, OnExit, OnExpiry, OnPanic, Serial};
pub use virtio::VirtioSpec;
pub use virtio::vsock::{VsockServer, VsockSpec};
