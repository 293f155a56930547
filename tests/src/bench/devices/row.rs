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
        ("in time", 7),
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
    /// Of CPU time, for guest, monitor and kernel.
    pub(super) cpu_microseconds: Summary,
    /// Of the guest's clock: neighbours of the lab's are in it, too.
    pub(super) microseconds: Summary,
    pub(super) exits: Summary,
}

impl Row {
    /// Of the load of this index, the samples of all rounds.
    pub(super) fn new(device: Device, load: &Load, samples: &[(Contender, Sample)]) -> Row {
        let of = |who| {
            let those = || samples.iter().filter(move |(by, _)| *by == who).map(|(_, sample)| sample);
            Some(Figures {
                cpu_microseconds: Summary::of(those().map(|sample| sample.cpu))?,
                microseconds: Summary::of(those().map(|sample| sample.time))?,
                exits: Summary::of(those().map(|sample| sample.exits))?,
            })
        };
        Row { device, load: load.name, unit: load.unit, vmm: of(Contender::Vmm), qemu: of(Contender::Qemu) }
    }

    /// What vmm takes of the CPU for each that QEMU takes.
    pub(super) fn ratio(&self) -> Option<f64> {
        Some(self.vmm?.cpu_microseconds.median / self.qemu?.cpu_microseconds.median)
    }

    /// The same by the guest's clock.
    fn ratio_in_time(&self) -> Option<f64> {
        Some(self.vmm?.microseconds.median / self.qemu?.microseconds.median)
    }

    /// As a line of the table.
    pub(super) fn line(&self) -> String {
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let microseconds =
            |figures: Option<Figures>| or_none(figures.map(|f| format!("{:.0}", f.cpu_microseconds.median)));
        let of_two = |ratio: Option<f64>| or_none(ratio.map(|ratio| format!("{ratio:.2}")));
        let exits = |figures: Option<Figures>| or_none(figures.map(|f| format!("{:.2}", f.exits.median)));
        TABLE.row([
            self.device.name().to_owned(),
            self.load.to_owned(),
            self.unit.to_owned(),
            microseconds(self.vmm),
            microseconds(self.qemu),
            of_two(self.ratio()),
            of_two(self.ratio_in_time()),
            exits(self.vmm),
            exits(self.qemu),
        ])
    }
}
