//! Memory that comes and goes, in the dialect: `memory.hotplug_size` with `hotplug_method` VirtioMem, and `desired_ram` of `vm.resize`.

use devices::virtio::mem::MemState;
use serde_json::{Map, Value};

use super::config::Configuration;
use super::error::{ApiError, told};
use super::fields::Fields;
use crate::spec::MachineSpec;
use crate::virtio::mem::MemSpec;

/// How the dialect calls memory that a virtio device plugs in.
const METHOD: &str = "VirtioMem";

/// Reads what room there is. By any other method, as with vCPUs, room to grow in is no more than a wish.
pub(super) fn read(memory: &mut Fields, spec: &mut MachineSpec) {
    let (size, plugged) = (memory.number("hotplug_size"), memory.number("hotplugged_size"));
    let method = memory.text("hotplug_method");
    if let (Some(METHOD), Some(size)) = (method.as_deref(), size.filter(|size| *size > 0)) {
        spec.pluggable = Some(MemSpec { size, plugged: plugged.unwrap_or(0) });
    }
}

pub(super) fn describe(spec: &MachineSpec, memory: &mut Map<String, Value>) {
    let Some(MemSpec { size, plugged }) = spec.pluggable else { return };
    memory.insert("hotplug_method".to_owned(), METHOD.into());
    memory.insert("hotplug_size".to_owned(), size.into());
    memory.insert("hotplugged_size".to_owned(), plugged.into());
}

/// What a guest has: RAM, and what it has plugged in.
pub(super) fn actual(memory: u64, state: Option<&MemState>) -> u64 {
    memory.saturating_add(state.map_or(0, |state| state.plugged))
}

impl Configuration {
    /// Notes that a machine is to have `ram` bytes in all, whatever its balloon takes; returns what is to be plugged in, if there is
    /// room for any. A machine without can only be asked for what it has.
    pub(super) fn resize_memory(&mut self, ram: u64) -> Result<Option<u64>, ApiError> {
        let has = self.spec.memory;
        match (&mut self.spec.pluggable, ram.checked_sub(has)) {
            (None, Some(0)) => Ok(None),
            (None, _) => {
                let what = format!(
                    "desired_ram cannot be {ram}, the machine has {has}: it has no memory that comes or goes"
                );
                let help = "help: create it anew with what it is to have, or with room for it: --memory or --hotplug-memory";
                Err(ApiError { status: 501, messages: vec![what, help.to_owned()] })
            }
            (Some(_), None) => {
                let what =
                    format!("desired_ram cannot be {ram}, the machine has {has} that it cannot do without");
                Err(ApiError::bad_request(vec![what]))
            }
            (Some(pluggable), Some(plugged)) => {
                pluggable.check(plugged).map_err(|error| ApiError::bad_request(told(&error)))?;
                pluggable.plugged = plugged;
                Ok(Some(plugged))
            }
        }
    }
}
