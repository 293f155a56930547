use std::fs;

use super::*;

const FATAL: &str = "Undefined 0\nDLP 0\nSDES 0\nTLP 0\nFCP 0\nCmpltTO 0\nMalfTLP 1\nTOTAL_ERR_FATAL 1\n";
const NONFATAL: &str = "Undefined 0\nTLP 2\nCmpltTO 0\nTOTAL_ERR_NONFATAL 2\n";

#[test]
fn what_is_new_is_named() {
    let root = tempfile::tempdir().unwrap();
    let host = Host::at(root.path());
    let address = "0000:01:00.0".parse().unwrap();
    let before = host.uncorrectable_errors(address);
    assert_eq!(before, ErrorCounts::default());
    let device = host.device_path(address);
    fs::create_dir_all(&device).unwrap();
    fs::write(device.join("aer_dev_fatal"), FATAL).unwrap();
    fs::write(device.join("aer_dev_nonfatal"), NONFATAL).unwrap();
    let first = host.uncorrectable_errors(address);
    assert_eq!(first.since(&before), ["MalfTLP (fatal)", "TLP (non-fatal)"]);
    assert!(first.since(&first).is_empty());
    fs::write(device.join("aer_dev_nonfatal"), NONFATAL.replace("CmpltTO 0", "CmpltTO 7")).unwrap();
    assert_eq!(host.uncorrectable_errors(address).since(&first), ["CmpltTO (non-fatal)"]);
}

#[test]
fn what_makes_no_sense_counts_nothing() {
    let root = tempfile::tempdir().unwrap();
    let host = Host::at(root.path());
    let address = "0000:01:00.0".parse().unwrap();
    fs::create_dir_all(host.device_path(address)).unwrap();
    fs::write(host.device_path(address).join("aer_dev_fatal"), "\n \nDLP\nDLP x\nDLP -1\n\u{fffd} 1")
        .unwrap();
    assert_eq!(host.uncorrectable_errors(address).since(&ErrorCounts::default()), ["\u{fffd} (fatal)"]);
}
