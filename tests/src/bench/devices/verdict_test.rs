use super::super::load::Device;
use super::super::measure::Sample;
use super::super::round::Pair;
use super::*;

#[test]
fn complains_of_what_is_dearer_than_with_qemu_and_of_what_is_missing() {
    let load = &Device::Disk.loads()[0];
    let sample = |cpu| Sample { cpu, time: 1.0, exits: 1.0 };
    let row = |pairs: &[[f64; 2]]| {
        let pair = |[vmm, qemu]: &[f64; 2]| Pair { vmm: sample(*vmm), qemu: sample(*qemu) };
        Row::new(Device::Disk, load, &pairs.iter().map(pair).collect::<Vec<_>>())
    };
    // Whatever the machine does from one pair to the next.
    let even = row(&[[101.0, 100.0], [250.0, 251.0], [70.0, 69.0]]);
    let dear = row(&[[150.0, 100.0], [75.0, 50.0], [140.0, 100.0]]);
    let perhaps = row(&[[150.0, 100.0], [75.0, 50.0], [90.0, 100.0]]);
    let none = row(&[]);
    assert_eq!(complaints(&[even]), Vec::<String>::new());
    assert_eq!(
        complaints(&[dear]),
        ["disk, 4 KiB read at random, depth 1: 1.50 of what QEMU takes, and surely 1.40"]
    );
    assert_eq!(complaints(&[perhaps]), Vec::<String>::new());
    assert_eq!(complaints(&[none]), ["disk, 4 KiB read at random, depth 1: was not measured"]);
    assert_eq!(complaints(&[]), ["no row has such a name"]);
}
