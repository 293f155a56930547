//! The API: the machine controlled over a Unix socket, in the REST dialect of Cloud Hypervisor (v1), so that tools made
//! for that one can be used.
//!
//! [`socket`] is where it listens, [`server`] takes connections and bounds what clients can do, [`http`] reads requests,
//! [`routes`] knows what they mean, [`manager`] does it. The schema is in docs/api/.

mod balloon;
pub mod config;
mod connection;
mod console;
mod counters;
pub mod disks;
mod error;
mod fields;
pub mod http;
mod limits;
pub mod manager;
mod mem;
mod memory;
mod metrics;
pub mod record;
pub mod routes;
pub mod server;
pub mod socket;
mod virtio;

use std::sync::Arc;

pub use config::Configuration;
pub use manager::Manager;
pub use server::Server;
pub use socket::{ApiListener, ApiSocket};

use crate::problem::{Problems, Unexpected};

/// Serves `manager` at `listener` until it is dropped.
pub fn start(listener: &ApiListener, manager: &Arc<Manager>) -> Result<Server, Problems> {
    let socket = listener.listener().map_err(Unexpected::during("cannot serve the API"))?;
    Server::start(socket, Arc::new(routes::handler(manager.clone())))
        .map_err(Unexpected::during("cannot serve the API"))
}
