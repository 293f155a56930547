use super::*;
use crate::grammar::{self, Form, Table, Value, flag};

/// What is typed after `--vfio`, and after `--iommufd`; and what is reported.
fn read(vfio: &[&str], iommufd: Option<&str>) -> (Config, Vec<String>) {
    let mut said = Vec::new();
    let mut list = |flag: &str, texts: &[&str]| {
        let values: Vec<Value> = texts
            .iter()
            .filter_map(|text| flag::options(flag, text).map_err(|error| said.push(error.to_string())).ok())
            .collect();
        values
    };
    let (vfio, iommufd) = (list("--vfio", vfio), list("--iommufd", iommufd.as_slice()));
    let origin = flag::text("", "").origin;
    let mut keys = vec![("vfio".to_owned(), Value { form: Form::List(vfio), origin: origin.clone() })];
    keys.extend(iommufd.into_iter().map(|value| ("iommufd".to_owned(), value)));
    let reading = grammar::read::<Config>(&[Value { form: Form::Table(Table { word: None, keys }), origin }]);
    said.extend(reading.problems.iter().map(ToString::to_string));
    (reading.value, said)
}

#[test]
fn devices_are_named_by_address_or_descriptor() {
    let at = |text: &str| VfioDevice { device: Some(text.parse().unwrap()), ..VfioDevice::default() };
    let fd = VfioDevice { fd: Some(5), ..VfioDevice::default() };
    let (iommufd, container) = (Some(Interface::Iommufd), Some(Interface::Container));
    for (text, device) in [
        ("0000:01:00.0", at("0000:01:00.0")),
        ("01:00.0", at("0000:01:00.0")),
        ("device=01:00.0", at("0000:01:00.0")),
        ("01:00.0,backend=iommufd", VfioDevice { backend: iommufd, ..at("0000:01:00.0") }),
        ("01:00.0,backend=container", VfioDevice { backend: container, ..at("0000:01:00.0") }),
        ("01:00.0,port", VfioDevice { port: true, ..at("0000:01:00.0") }),
        ("01:00.0,port,backend=iommufd", VfioDevice { port: true, backend: iommufd, ..at("0000:01:00.0") }),
        ("01:00.0,iommu", VfioDevice { iommu: true, ..at("0000:01:00.0") }),
        ("fd=5", fd.clone()),
        ("fd=5,backend=iommufd", VfioDevice { backend: iommufd, ..fd }),
    ] {
        assert_eq!((read(&[text], None).0.vfio, vec![""; 0]), (vec![device], vec![]), "{text}");
    }
}

#[test]
fn what_cannot_be_read_is_told_apart() {
    for (text, said) in [
        ("", "--vfio `` is not a PCI address"),
        ("nvme0", "--vfio `nvme0` is not a PCI address"),
        ("nvme0,backend=iommufd", "--vfio `nvme0,backend=iommufd`: device `nvme0` is not a PCI address"),
        ("01:00.0,", "--vfio `01:00.0,`: there is nothing between two commas, or after the last"),
        ("01:00.0,backend=group", "--vfio `01:00.0,backend=group`: backend cannot be `group`"),
        ("01:00.0,iommufd", "--vfio `01:00.0,iommufd`: there is no key `iommufd`"),
        ("fd=", "--vfio `fd=`: fd `` is not a whole number from 0 to 4294967295"),
        ("fd=-1", "--vfio `fd=-1`: fd `-1` is not a whole number from 0 to 4294967295"),
        ("fd=+5", "--vfio `fd=+5`: fd `+5` is not a whole number from 0 to 4294967295"),
        (
            "fd=99999999999",
            "--vfio `fd=99999999999`: fd `99999999999` is not a whole number from 0 to 4294967295",
        ),
    ] {
        let (config, errors) = read(&[text], None);
        assert_eq!(errors, [said], "{text}");
        assert!(config.vfio.is_empty(), "what was misread is not half read");
    }
    let (_, errors) = read(&[], Some("/dev/iommu"));
    assert_eq!(errors, ["--iommufd `/dev/iommu` is not a whole number from 0 to 4294967295"]);
}

#[test]
fn what_makes_no_sense_is_reported() {
    let said = |vfio: &[&str], iommufd| {
        let (config, errors) = read(vfio, iommufd);
        assert_eq!(errors, [""; 0]);
        let mut problems = Problems::default();
        assert!(config.vfio_request(&mut problems).is_empty());
        assert_eq!(problems.exit_code(), 2);
        problems.0.iter().map(|problem| problem.what.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(
        said(&["fd=900", "fd=901", "fd=900"], Some("fd=901")),
        [
            "file descriptor 900 is not open",
            "file descriptor 901 is not open",
            "file descriptor 900 is given twice",
            "file descriptor 901 is given twice",
        ]
    );
    assert_eq!(said(&["backend=iommufd"], None), ["--vfio does not say which device"]);
    assert_eq!(said(&["01:00.0,fd=3"], None), ["--vfio 0000:01:00.0,fd=3 names a device twice"]);
    assert_eq!(said(&[], Some("fd=3")), ["--iommufd is of no use without --vfio"]);
}
