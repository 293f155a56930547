use super::*;

fn net(name: &str) -> NetSpec {
    let tap = TapSource::Named { name: name.to_owned(), create: false };
    NetSpec { id: None, tap, mac: None, mtu: None, queues: None, offloads: true, server: NetServer::Usual }
}

#[test]
fn everything_wrong_is_found_before_taps_are_opened() {
    let mac = "02:00:00:00:00:01".parse().unwrap();
    let odd = NetSpec { mtu: Some(67), queues: Some(0), mac: Some(mac), ..net("tap0") };
    let before = [net("tap1"), NetSpec { mac: Some(mac), ..net("tap0") }];
    let expected = [
        NetSpecError::Mtu(67),
        NetSpecError::Queues(0),
        NetSpecError::Twice("tap0".to_owned()),
        NetSpecError::SameMac(mac),
    ];
    assert_eq!(check(&odd, &before), expected);
    let good = NetSpec { mtu: Some(65521), queues: Some(64), ..net("tap0") };
    assert_eq!(check(&good, &[net("tap1")]), []);
}

#[test]
fn taps_that_cannot_be_had_are_each_reported() {
    let mut problems = Problems::default();
    let nets = [net("vmm-none"), net("lo"), net("not/a/name"), NetSpec { mtu: Some(1), ..net("vmm-none2") }];
    validate(&nets, &mut problems);
    assert!(open(&nets, 1, &mut problems).is_empty());
    let classes: Vec<Class> = problems.0.iter().map(|problem| problem.class).collect();
    assert_eq!(classes, [Class::Usage, Class::Host, Class::Host, Class::Usage]);
}

#[test]
fn made_up_addresses_depend_on_the_tap() {
    assert_eq!(make_up("tap0"), make_up("tap0"));
    assert_ne!(make_up("tap0"), make_up("tap1"));
}
