use super::*;

fn request(backends: &[Option<Backend>]) -> Request {
    let device = |(i, backend): (usize, &Option<Backend>)| {
        let address = format!("0000:0{i}:00.0").parse().unwrap();
        DeviceRequest { backend: *backend, ..DeviceRequest::at(address) }
    };
    Request { devices: backends.iter().enumerate().map(device).collect(), ..Request::default() }
}

#[test]
fn one_wish_is_everybodys() {
    let (iommufd, container) = (Some(Backend::Iommufd), Some(Backend::Container));
    for (wishes, backend) in [
        (&[][..], None),
        (&[None, None], None),
        (&[None, iommufd], iommufd),
        (&[container, None], container),
        (&[container, container], container),
    ] {
        assert_eq!(request(wishes).backend().unwrap(), backend, "{wishes:?}");
    }
}

#[test]
fn two_wishes_are_refused_by_name() {
    let error = request(&[Some(Backend::Iommufd), Some(Backend::Container)]).backend().unwrap_err();
    assert_eq!(
        error.to_string(),
        "0000:01:00.0 asks for a container, 0000:00:00.0 for iommufd: all devices of a machine share one of them"
    );
}

#[test]
fn what_was_handed_over_is_for_iommufd() {
    let file = || Some(Arc::new(tempfile::tempfile().unwrap()));
    let mut handed = request(&[None]);
    handed.devices[0].opened = file();
    assert_eq!(handed.backend().unwrap(), Some(Backend::Iommufd));
    handed.devices[0].backend = Some(Backend::Container);
    let error = handed.backend().unwrap_err().to_string();
    assert!(
        error.starts_with(
            "0000:00:00.0 asks for a container, the descriptor of 0000:00:00.0 for iommufd: all devices"
        ),
        "{error}"
    );
    let handed = Request { iommufd: file(), ..request(&[Some(Backend::Container)]) };
    let error = handed.backend().unwrap_err().to_string();
    assert!(error.starts_with("0000:00:00.0 asks for a container, --iommufd for iommufd: "), "{error}");
}
