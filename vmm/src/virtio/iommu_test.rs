use vfio::DeviceRequest;

use super::*;
use crate::virtio::mem::MemSpec;

fn wrong(change: impl FnOnce(&mut DeviceRequest, &mut MachineSpec)) -> Vec<String> {
    let mut device = DeviceRequest::at("0000:01:00.0".parse().unwrap());
    let mut spec = MachineSpec::for_api();
    change(&mut device, &mut spec);
    spec.vfio.devices = vec![device];
    let mut problems = Problems::default();
    validate(&spec, &mut problems);
    problems.0.iter().map(|problem| problem.what.to_string()).collect()
}

#[test]
fn a_confined_device_has_its_place_and_the_guest_its_memory() {
    assert!(wrong(|device, _| device.confined = true).is_empty());
    assert!(wrong(|device, _| device.port = true).is_empty());
    let port = wrong(|device, _| (device.confined, device.port) = (true, true));
    assert_eq!(port, ["0000:01:00.0 cannot be behind the guest's IOMMU and behind a root port"]);
    let pluggable = Some(MemSpec { size: 1 << 30, plugged: 0 });
    let memory = wrong(|device, spec| (device.confined, spec.pluggable) = (true, pluggable));
    assert_eq!(memory.len(), 1);
    assert!(wrong(|_, spec| spec.pluggable = pluggable).is_empty());
}
