//! A guest of each contender, both in one host: while one does a load the other waits. They take turns for a second or so, since
//! a machine with neighbours is twice as fast in one minute as in the next.

use super::contender::Contender;
use super::load::{Device, TURNS};
use super::measure::{Failure, Guest, Sample};
use crate::host::Host;

/// One load, by both, one right after the other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pair {
    pub(super) vmm: Sample,
    pub(super) qemu: Sample,
}

/// The pairs of each of the device's loads, in their order. `command` is what runs a contender's guest.
pub(super) fn run(
    host: &Host,
    device: Device,
    command: impl Fn(Contender) -> Vec<String>,
) -> Result<Vec<Vec<Pair>>, Failure> {
    let boot = |who| Guest::boot(host, command(who)).map_err(|failure| failure.of(who));
    let (mut vmm, mut qemu) = (boot(Contender::Vmm)?, boot(Contender::Qemu)?);
    let mut pairs = Vec::new();
    for _ in device.loads() {
        let mut turns = Vec::new();
        for turn in 0..TURNS {
            let mut ours = || vmm.load().map_err(|failure| failure.of(Contender::Vmm));
            let mut theirs = || qemu.load().map_err(|failure| failure.of(Contender::Qemu));
            turns.push(if turn % 2 == 0 {
                let vmm = ours()?;
                Pair { vmm, qemu: theirs()? }
            } else {
                let qemu = theirs()?;
                Pair { vmm: ours()?, qemu }
            });
        }
        pairs.push(turns);
    }
    vmm.end()?;
    qemu.end()?;
    Ok(pairs)
}
