use super::super::contender::Contender;
use super::super::load::Device;
use super::super::measure::Sample;
use super::*;

#[test]
fn complains_of_what_is_dearer_than_with_qemu_and_of_what_is_missing() {
    let load = &Device::Disk.loads()[0];
    let row = |samples: &[(Contender, f64)]| {
        let samples: Vec<_> =
            samples.iter().map(|(who, cpu)| (*who, Sample { cpu: *cpu, time: 1.0, exits: 1.0 })).collect();
        Row::new(Device::Disk, load, &samples)
    };
    let even = row(&[(Contender::Vmm, 101.0), (Contender::Qemu, 100.0)]);
    let dear = row(&[(Contender::Vmm, 150.0), (Contender::Qemu, 100.0)]);
    let half = row(&[(Contender::Vmm, 100.0)]);
    assert_eq!(complaints(&[even]), Vec::<String>::new());
    assert_eq!(complaints(&[dear]), ["disk, 4 KiB read at random, depth 1: 1.50 of what QEMU takes"]);
    assert_eq!(complaints(&[half]), ["disk, 4 KiB read at random, depth 1: was not measured"]);
    assert_eq!(complaints(&[]), ["no row has such a name"]);
}
