use super::*;

#[test]
fn devices_are_named_by_address_or_descriptor() {
    let at = |text: &str| Named::Address(text.parse().unwrap());
    for (text, named, backend) in [
        ("0000:01:00.0", at("0000:01:00.0"), None),
        ("01:00.0", at("0000:01:00.0"), None),
        ("01:00.0,backend=iommufd", at("0000:01:00.0"), Some(Backend::Iommufd)),
        ("01:00.0,backend=container", at("0000:01:00.0"), Some(Backend::Container)),
        ("01:00.0,port", at("0000:01:00.0"), None),
        ("01:00.0,port,backend=iommufd", at("0000:01:00.0"), Some(Backend::Iommufd)),
        ("fd=5", Named::Descriptor(5), None),
        ("fd=5,backend=iommufd", Named::Descriptor(5), Some(Backend::Iommufd)),
    ] {
        assert_eq!(parse(text).unwrap(), (named, backend, text.contains("port")), "{text}");
    }
}

#[test]
fn what_cannot_be_read_is_told_apart() {
    for (text, said) in [
        ("", "--vfio `` is not a PCI address"),
        ("nvme0,backend=iommufd", "--vfio `nvme0` is not a PCI address"),
        ("01:00.0,", "--vfio `01:00.0,`: `` is not an option"),
        ("01:00.0,backend=group", "--vfio `01:00.0,backend=group`: `backend=group` is not an option"),
        ("01:00.0,iommufd", "--vfio `01:00.0,iommufd`: `iommufd` is not an option"),
        ("fd=", "--vfio `fd=` does not name a file descriptor"),
        ("fd=-1", "--vfio `fd=-1` does not name a file descriptor"),
        ("fd=+5", "--vfio `fd=+5` does not name a file descriptor"),
        ("fd=99999999999", "--vfio `fd=99999999999` does not name a file descriptor"),
    ] {
        assert_eq!(parse(text).unwrap_err().to_string(), said);
    }
    assert_eq!(
        parse_descriptor("--iommufd", "/dev/iommu").unwrap_err().to_string(),
        "--iommufd `/dev/iommu` does not name a file descriptor"
    );
}

#[test]
fn descriptors_that_are_not_there_are_reported() {
    let list = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let args = VfioArgs { vfio: list(&["fd=900", "fd=901", "fd=900"]), iommufd: Some("fd=901".to_owned()) };
    let mut problems = Problems::default();
    assert!(args.request(&mut problems).is_empty());
    let said: Vec<String> = problems.0.iter().map(|problem| problem.what.to_string()).collect();
    assert_eq!(
        said,
        [
            "file descriptor 900 is not open",
            "file descriptor 901 is not open",
            "file descriptor 900 is given twice",
            "file descriptor 901 is given twice",
        ]
    );
    assert_eq!(problems.exit_code(), 2);
}
