//! What was measured of a load: a row of the table and of the JSON.

use serde::Serialize;

use super::contender::Contender;
use super::load::{Device, Load};
use super::measure::Sample;
use crate::bench::figures::Summary;
use crate::bench::table::Table;

pub(super) const TABLE: Table = Table::new(
    3,
    &[
        ("device", 9),
        ("load", 36),
        ("for each", 8),
        ("vmm, us", 10),
        ("QEMU, us", 10),
        ("of QEMU", 7),
        ("exits", 6),
        ("QEMU's", 6),
    ],
);

/// One load, by both.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Row {
    pub(super) device: Device,
    pub(super) load: &'static str,
    pub(super) unit: &'static str,
    pub(super) vmm: Option<Figures>,
    pub(super) qemu: Option<Figures>,
}

/// Of one request, MiB or packet.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Figures {
    /// Of the host's CPU: guest, monitor and kernel.
    pub(super) microseconds: Summary,
    pub(super) exits: Summary,
}

impl Row {
    /// Of the load of this index, the samples of all rounds.
    pub(super) fn new(device: Device, load: &Load, samples: &[(Contender, Sample)]) -> Row {
        let of = |who| {
            let those = || samples.iter().filter(move |(by, _)| *by == who).map(|(_, sample)| sample);
            Some(Figures {
                microseconds: Summary::of(those().map(|sample| sample.microseconds))?,
                exits: Summary::of(those().map(|sample| sample.exits))?,
            })
        };
        Row { device, load: load.name, unit: load.unit, vmm: of(Contender::Vmm), qemu: of(Contender::Qemu) }
    }

    /// What vmm takes for each QEMU takes.
    pub(super) fn ratio(&self) -> Option<f64> {
        Some(self.vmm?.microseconds.median / self.qemu?.microseconds.median)
    }

    /// As a line of the table.
    pub(super) fn line(&self) -> String {
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let microseconds =
            |figures: Option<Figures>| or_none(figures.map(|f| format!("{:.0}", f.microseconds.median)));
        let exits = |figures: Option<Figures>| or_none(figures.map(|f| format!("{:.2}", f.exits.median)));
        TABLE.row([
            self.device.name().to_owned(),
            self.load.to_owned(),
            self.unit.to_owned(),
            microseconds(self.vmm),
            microseconds(self.qemu),
            or_none(self.ratio().map(|ratio| format!("{ratio:.2}"))),
            exits(self.vmm),
            exits(self.qemu),
        ])
    }
}
