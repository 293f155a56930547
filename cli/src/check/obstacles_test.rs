//! Every obstacle that an operator may meet, as it is printed: `obstacles.txt`.

use std::fs;

use memory::layout::AddressLimits;
use memory::pin::{self, AdmitError, Chunk, DmaMapper, MapError};
use memory::{GuestRam, Layout};
use miette::Diagnostic;
use vfio::{Backend, Host, Request};

use super::fixture::Scripted;
use crate::report;

const GIB: u64 = 1 << 30;

impl Scripted {
    /// What is in the way of this device, as it is printed.
    fn obstacles(&self, backend: Option<Backend>) -> String {
        let mut request = Request::at(&["0000:01:00.0".parse().unwrap()]);
        request.devices.iter_mut().for_each(|device| device.backend = backend);
        let errors = vfio::preflight::check_on(&Host::at(self.root()), request).unwrap_err();
        let texts = errors.iter().map(|error| report::text("problem", error));
        texts.collect::<String>().replace(&self.root().display().to_string(), "")
    }
}

/// An address space that takes so many maps.
struct Room(u64);

impl DmaMapper for Room {
    fn map(&self, _: &Chunk, _: Option<std::os::fd::BorrowedFd<'_>>) -> Result<(), MapError> {
        unreachable!()
    }

    fn unmap(&self, _: &Chunk) -> Result<(), MapError> {
        unreachable!()
    }

    fn room(&self) -> Option<u64> {
        Some(self.0)
    }
}

fn problem(error: &dyn Diagnostic) -> String {
    report::text("problem", error)
}

#[test]
fn each_obstacle_has_its_message_and_its_remedy() {
    const BDF: &str = "0000:01:00.0";
    let host = Scripted::new;
    let bound = || host().device(BDF, Some("vfio-pci"), Some(12));
    let narrow =
        AddressLimits { phys_bits: 46, iova: Some(vec![0..=0xfedf_ffff, 0xfef0_0000..=0x7f_ffff_ffff]) };
    let reserved =
        AddressLimits { phys_bits: 46, iova: Some(vec![0..=0x7fff, 0x10_0000..=0xffff_ffff_ffff]) };
    let small = AddressLimits { phys_bits: 46, iova: Some(vec![0..=0xffff_ffff_ffff]) };
    let ram = GuestRam::new(&Layout::new(6 * GIB, &small).unwrap()).unwrap();
    let cases = [
        ("a device of the host", host().device(BDF, Some("e1000e"), Some(12)).obstacles(None)),
        ("a device without a driver", host().device(BDF, None, Some(12)).obstacles(None)),
        (
            "the module is missing",
            host()
                .device(BDF, None, Some(12))
                .without("sys/bus/pci/drivers/vfio-pci")
                .without("dev")
                .obstacles(None),
        ),
        (
            "others of its group",
            bound()
                .device("0000:01:00.1", Some("snd_hda_intel"), Some(12))
                .device("0000:01:00.2", None, Some(12))
                .obstacles(None),
        ),
        ("no IOMMU", host().device(BDF, Some("vfio-pci"), None).obstacles(None)),
        (
            "not behind the IOMMU",
            host().device(BDF, None, None).device("0000:02:00.0", None, Some(1)).obstacles(None),
        ),
        ("no such device", host().obstacles(None)),
        ("it is gone", {
            let host = bound();
            fs::write(host.path(&format!("sys/bus/pci/devices/{BDF}/config")), [0xff; 64]).unwrap();
            host.obstacles(None)
        }),
        (
            "its cdev is another's",
            bound().forbid("dev/vfio/devices/vfio12").obstacles(Some(Backend::Iommufd)),
        ),
        ("its group is another's", bound().forbid("dev/vfio/12").obstacles(Some(Backend::Container))),
        ("no iommufd", bound().without("dev/iommu").obstacles(Some(Backend::Iommufd))),
        (
            "no cdev",
            bound().without(&format!("sys/bus/pci/devices/{BDF}/vfio-dev")).obstacles(Some(Backend::Iommufd)),
        ),
        ("no container", bound().without("dev/vfio/vfio").obstacles(Some(Backend::Container))),
        ("no node", bound().without("dev/vfio/12").obstacles(Some(Backend::Container))),
        ("memlock", problem(&AdmitError::MemlockTooLow { need: 4 * GIB, have: 8 << 20 })),
        ("a narrow aperture", problem(&Layout::new(600 * GIB, &narrow).unwrap_err())),
        ("an aperture with a hole", problem(&Layout::new(GIB, &reserved).unwrap_err())),
        ("dma_entry_limit is lowered", problem(&pin::check_room(&ram, &Room(3)).unwrap_err())),
    ];
    let text: String = cases.iter().map(|(name, text)| format!("== {name}\n{text}\n")).collect();
    assert!(cases.iter().all(|(_, text)| text.contains("help: ")));
    assert_eq!(text, include_str!("obstacles.txt"));
    pin::check_room(&ram, &Room(6)).unwrap();
}
