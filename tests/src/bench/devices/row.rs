//! What was measured of a load: a row of the table and of the JSON.

use serde::Serialize;

use super::load::{Device, Load};
use super::measure::Sample;
use super::round::Pair;
use crate::bench::figures::{Summary, median_at_least};
use crate::bench::table::Table;

pub(super) const TABLE: Table = Table::new(
    3,
    &[
        ("device", 9),
        ("load", 36),
        ("for each", 8),
        ("vmm, us", 10),
        ("QEMU, us", 10),
        ("of QEMU", 19),
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
    /// What vmm takes of the CPU for each that QEMU takes right before or after: machines change their pace from one second to the next.
    pub(super) of_qemu: Option<Summary>,
    /// What that is at least, with a certainty of 95 %.
    pub(super) of_qemu_at_least: Option<f64>,
    /// What vmm takes in time, by the guests' clocks.
    pub(super) of_qemu_in_time: Option<Summary>,
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
    /// Of a load, the pairs of all rounds.
    pub(super) fn new(device: Device, load: &Load, pairs: &[Pair]) -> Row {
        let of = |who: fn(&Pair) -> &Sample| {
            Some(Figures {
                cpu_microseconds: Summary::of(pairs.iter().map(|pair| who(pair).cpu))?,
                microseconds: Summary::of(pairs.iter().map(|pair| who(pair).time))?,
                exits: Summary::of(pairs.iter().map(|pair| who(pair).exits))?,
            })
        };
        let of_qemu = |what: fn(&Sample) -> f64| {
            Summary::of(pairs.iter().map(|Pair { vmm, qemu }| what(vmm) / what(qemu)))
        };
        Row {
            device,
            load: load.name,
            unit: load.unit,
            vmm: of(|pair| &pair.vmm),
            qemu: of(|pair| &pair.qemu),
            of_qemu: of_qemu(|sample| sample.cpu),
            of_qemu_at_least: median_at_least(pairs.iter().map(|Pair { vmm, qemu }| vmm.cpu / qemu.cpu)),
            of_qemu_in_time: of_qemu(|sample| sample.time),
        }
    }

    /// As a line of the table.
    pub(super) fn line(&self) -> String {
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let microseconds =
            |figures: Option<Figures>| or_none(figures.map(|f| format!("{:.0}", f.cpu_microseconds.median)));
        let ratio = |ratio: Option<Summary>| or_none(ratio.map(|ratio| format!("{:.2}", ratio.median)));
        let spread = |ratio: Option<Summary>| {
            or_none(ratio.map(|Summary { median, quartiles: [low, high], .. }| {
                format!("{median:.2} ({low:.2} to {high:.2})")
            }))
        };
        let exits = |figures: Option<Figures>| or_none(figures.map(|f| format!("{:.2}", f.exits.median)));
        TABLE.row([
            self.device.name().to_owned(),
            self.load.to_owned(),
            self.unit.to_owned(),
            microseconds(self.vmm),
            microseconds(self.qemu),
            spread(self.of_qemu),
            ratio(self.of_qemu_in_time),
            exits(self.vmm),
            exits(self.qemu),
        ])
    }
}
