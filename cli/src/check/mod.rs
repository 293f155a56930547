//! `vmm check`: what any start needs of the host ([`host`]), or what a start of a given machine needs, without a start
//! ([`preconditions`]); with `--pin` guest memory is brought up as a start would and taken down again.

mod findings;
#[cfg(test)]
mod fixture;
mod host;
mod pattern;
mod preconditions;

use std::fs::File;
use std::io::Read;

use memory::layout::AddressLimits;
use memory::pin::{self, DmaMapper, PinReport};
use memory::{Backing, GuestRam, Layout};
use miette::Diagnostic;
use thiserror::Error;
use vfio::Passthrough;
use vmm::problem::Unexpected;
use vmm::{Class, Problem, Problems};

use crate::args::CheckArgs;
use crate::pinning::Teller;

/// Where `/proc/cpuinfo` does not say.
const PHYS_BITS: u8 = 40;

/// What a check finds wrong that a start would not.
#[derive(Debug, Error, Diagnostic)]
enum CheckError {
    #[error("--contents and --hugepages cannot be had together")]
    #[diagnostic(help(
        "the pattern is written by way of the file, which one of huge pages does not allow: leave one of them out"
    ))]
    Unwritable,
    #[error("{0} pinned pages lie in CMA or ZONE_MOVABLE")]
    #[diagnostic(help("kernels before 5.13 pin there without a word: use a later one"))]
    Misplaced(u64),
    #[error("the contents of {0} pages changed while they were pinned")]
    #[diagnostic(help(
        "this should not happen: please report it, with the file that --report wrote and `dmesg`"
    ))]
    Changed(u64),
}

/// Checks; returns the exit code.
pub(crate) fn check(args: &CheckArgs) -> Result<u8, Problems> {
    match (args.pin, args.machine.is_default()) {
        (true, _) => check_pin(args),
        (false, true) => Ok(host::check(args.json)),
        (false, false) => preconditions::check(args),
    }
}

fn check_pin(args: &CheckArgs) -> Result<u8, Problems> {
    let mut problems = Problems::default();
    let config = args.machine.read(&mut problems).value;
    let memory = config.memory.0;
    let request = config.vfio_request(&mut problems);
    let names = request.addresses().iter().map(ToString::to_string).collect();
    let options = config.pin_options(&mut problems);
    let devices = vmm::preflight::check_devices(request, &mut problems);
    let layout = problems.keep(Class::Usage, Layout::new(memory, &AddressLimits::cpu_only(phys_bits())));
    let backing = config.backing();
    problems.keep(Class::Usage, backing.check(memory));
    if args.contents && backing != Backing::Pages {
        problems.add(Class::Usage, CheckError::Unwritable);
    }
    pin::admit(memory, backing).into_iter().for_each(|error| problems.add(Class::Memory, error));
    if layout.is_none() || !problems.0.is_empty() {
        return Err(problems);
    }

    let passthrough = match devices {
        Some(devices) => Some(Passthrough::open(devices, None).map_err(Problem::of(Class::Host))?),
        None => None,
    };
    let iova = passthrough.as_ref().map(|passthrough| passthrough.aperture().ranges);
    let limits = AddressLimits { iova, ..AddressLimits::cpu_only(phys_bits()) };
    let layout = Layout::new(memory, &limits).map_err(Problem::of(Class::Usage))?;
    let ram = GuestRam::backed(&layout, backing).map_err(Problem::of(Class::Memory))?;
    if args.contents {
        pattern::fill(&ram).map_err(Unexpected::during("cannot fill guest memory"))?;
    }
    let teller = Teller::new(names, memory, &config);
    let mapper = passthrough.as_ref().map(|it| it.space().as_ref() as &dyn DmaMapper);
    let report = pin::bring_up(&ram, mapper, &options, &|progress| teller.progress(&progress))
        .inspect_err(|error| teller.failed(error))
        .map_err(Problem::of(Class::Memory))?;
    teller.pinned(&report);
    let changed = if args.contents {
        pattern::changed(&ram).map_err(Unexpected::during("cannot read guest memory"))?
    } else {
        0
    };
    take_down(mapper, &report, &mut problems);
    if report.misplaced() > 0 {
        problems.add(Class::Memory, CheckError::Misplaced(report.misplaced()));
    }
    if changed > 0 {
        problems.add(Class::Memory, CheckError::Changed(changed));
    }
    if problems.0.is_empty() { Ok(0) } else { Err(problems) }
}

/// Unmaps what was mapped, so that an error in it is seen.
fn take_down(mapper: Option<&dyn DmaMapper>, report: &PinReport, problems: &mut Problems) {
    let Some(mapper) = mapper else { return };
    for chunk in &report.mapped {
        if let Err(error) = mapper.unmap(chunk) {
            problems.add(
                Class::Internal,
                Unexpected { what: "cannot unmap guest memory", source: Box::new(error) },
            );
        }
    }
}

/// `address sizes : 46 bits physical, 48 bits virtual` of `/proc/cpuinfo`.
fn phys_bits() -> u8 {
    // The first CPU's entry is enough, and on a large host there are megabytes of them.
    let mut entry = Vec::new();
    let read = File::open("/proc/cpuinfo").and_then(|file| file.take(1 << 16).read_to_end(&mut entry));
    read.ok().and_then(|_| parse_phys_bits(&String::from_utf8_lossy(&entry))).unwrap_or(PHYS_BITS)
}

fn parse_phys_bits(cpuinfo: &str) -> Option<u8> {
    let line = cpuinfo.lines().find_map(|line| line.strip_prefix("address sizes"))?;
    let bits: u8 = line.trim_start_matches([' ', '\t', ':']).split_whitespace().next()?.parse().ok()?;
    (32..=52).contains(&bits).then_some(bits)
}

#[cfg(test)]
mod obstacles_test;
#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::{parse_phys_bits, phys_bits};

    const CPUINFO: &str = include_str!("cpuinfo.txt");

    #[test]
    fn physical_address_bits_are_read() {
        let text = "flags\t\t: fpu\naddress sizes\t: 46 bits physical, 48 bits virtual\n";
        assert_eq!(parse_phys_bits(text), Some(46));
        for text in
            ["", "address sizes", "address sizes\t: x", "address sizes\t: 255 bits", "address sizes : 4"]
        {
            assert_eq!(parse_phys_bits(text), None);
        }
    }

    #[test]
    fn this_host_has_them() {
        assert!((32..=52).contains(&phys_bits()));
        assert_eq!(parse_phys_bits(CPUINFO), Some(40));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..Default::default() })]
        #[test]
        fn takes_any_text(
            noise in proptest::collection::vec(any::<u8>(), 0..64),
            (from, to) in any::<(Index, Index)>(),
        ) {
            // Any part of a real file, replaced by anything.
            let (from, to) = (from.index(CPUINFO.len()), to.index(CPUINFO.len()));
            let mut bytes = CPUINFO.as_bytes().to_vec();
            bytes.splice(from.min(to)..from.max(to), noise);
            let bits = parse_phys_bits(&String::from_utf8_lossy(&bytes));
            prop_assert!(bits.is_none_or(|bits| (32..=52).contains(&bits)));
        }

        #[test]
        fn takes_any_figure(figure in "\\PC{0,12}", rest in "\\PC{0,12}") {
            let bits = parse_phys_bits(&format!("address sizes\t: {figure} {rest}\n"));
            prop_assert!(bits.is_none_or(|bits| figure.contains(&bits.to_string()) || rest.contains(&bits.to_string())));
        }
    }
}
