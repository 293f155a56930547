//! A machine's balloon in the dialect.

use devices::pci::PciAddress;
use devices::virtio::balloon::BalloonState;
use serde_json::{Map, Value, json};

use super::config::Configuration;
use super::error::{ApiError, told};
use super::fields::Fields;
use crate::virtio::balloon::{BalloonError, BalloonSpec, USUAL_PERIOD, check_size};

pub(super) fn read(balloon: &mut Fields) -> Option<BalloonSpec> {
    let size = balloon.number("size");
    if size.is_none() {
        balloon.refuse(
            "size",
            "is missing: it is the number of bytes that the guest is to give, 0 for none yet",
        );
    }
    let free_page_reporting = balloon.flag("free_page_reporting").unwrap_or(false);
    let deflate_on_oom = balloon.flag("deflate_on_oom").unwrap_or(false);
    Some(BalloonSpec { size: size?, free_page_reporting, deflate_on_oom, statistics: USUAL_PERIOD })
}

pub(super) fn describe(balloon: &BalloonSpec) -> Value {
    let BalloonSpec { size, free_page_reporting, deflate_on_oom, statistics: _ } = balloon;
    json!({ "size": size, "free_page_reporting": free_page_reporting, "deflate_on_oom": deflate_on_oom })
}

/// What the guest was asked for, what it says to have given, and what it said of its memory last.
pub(super) fn state(BalloonState { target, actual, statistics }: &BalloonState) -> Value {
    let statistics = statistics.as_ref().map(|statistics| {
        let all: Map<_, _> = statistics.all().map(|it| (it.name.to_owned(), it.value.into())).collect();
        json!({ "age_ms": statistics.taken.elapsed().as_millis() as u64, "guest": all })
    });
    json!({ "target": target, "actual": actual, "statistics": statistics })
}

impl Configuration {
    /// Whether a device of the host can be added at all.
    pub(super) fn can_pass_through(&self, address: PciAddress) -> Result<(), ApiError> {
        match self.spec.virtio.balloon {
            Some(_) => Err(refused(&BalloonError::BesideVfio(vec![address]))),
            None => Ok(()),
        }
    }

    /// Notes the balloon's size; returns whether there is one. A machine without can only be asked for none.
    pub(super) fn resize_balloon(&mut self, size: u64) -> Result<bool, ApiError> {
        match &mut self.spec.virtio.balloon {
            Some(balloon) => {
                check_size(size, self.spec.memory).map_err(|error| refused(&error))?;
                balloon.size = size;
                Ok(true)
            }
            None if size == 0 => Ok(false),
            None => {
                let what = format!("desired_balloon cannot be {size}, the machine has no balloon");
                let help = "help: create it anew with one, with vm.create or --balloon".to_owned();
                Err(ApiError { status: 501, messages: vec![what, help] })
            }
        }
    }
}

fn refused(error: &BalloonError) -> ApiError {
    ApiError::bad_request(told(error))
}
