//! The cases, a file for each topic. A case is a function that takes a `Ctx`; its topic's `all` names it and
//! the host it wants.

mod api;
mod bars;
mod binding;
mod boot;
mod campaign;
mod config;
mod config_space;
mod console;
mod cycles;
mod disks;
mod distribution;
mod docs;
mod extra;
mod faults;
mod host;
mod hostile;
mod interrupts;
mod iommu;
mod lab;
mod net;
mod numa;
mod obstacles;
mod passthrough;
mod pinning;
mod placement;
mod pmem;
mod refusals;
mod reset;
mod sandbox;
mod service;
mod soak;
mod together;
mod topology;
mod traffic;
mod vhost_user;
mod virtio;
mod virtio_console;
mod virtual_functions;

use crate::suite::Case;

/// Every case, in the order in which they are started.
pub(crate) fn all() -> Vec<Case> {
    [
        host::all(),
        hostile::all(),
        lab::all(),
        boot::all(),
        console::all(),
        api::all(),
        binding::all(),
        net::all(),
        numa::all(),
        obstacles::all(),
        passthrough::all(),
        interrupts::all(),
        iommu::all(),
        bars::all(),
        reset::all(),
        faults::all(),
        virtual_functions::all(),
        traffic::all(),
        sandbox::all(),
        placement::all(),
        service::all(),
        soak::all(),
        together::all(),
        cycles::all(),
        config::all(),
        virtio::all(),
        virtio_console::all(),
        vhost_user::all(),
        disks::all(),
        pmem::all(),
        distribution::all(),
        docs::all(),
        config_space::all(),
        pinning::all(),
        campaign::all(),
        refusals::all(),
        topology::all(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
#[path = "specification_test.rs"]
mod tests;
