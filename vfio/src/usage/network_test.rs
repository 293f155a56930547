use proptest::prelude::*;

use super::*;

fn route(interface: &str, destination: &str, prefix: u32, metric: u32) -> Route {
    let (destination, is_v4) = match destination.parse().unwrap() {
        IpAddr::V4(address) => (u128::from(address.to_bits()) << 96, true),
        IpAddr::V6(address) => (address.to_bits(), false),
    };
    Route { interface: interface.to_owned(), destination, prefix, metric, is_v4 }
}

#[test]
fn routes_are_read_as_the_kernel_writes_them() {
    let v4 = |line| Route::parse_v4(line);
    assert_eq!(
        v4("eth0\t00000000\t0202000A\t0003\t0\t0\t100\t00000000\t0\t0\t0"),
        Some(route("eth0", "0.0.0.0", 0, 100))
    );
    assert_eq!(
        v4("eth0\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0"),
        Some(route("eth0", "192.168.1.0", 24, 0))
    );
    assert_eq!(
        v4("Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT"),
        None
    );
    // Unreachable, and down.
    assert_eq!(v4("*\t0001A8C0\t00000000\t0201\t0\t0\t0\t00FFFFFF\t0\t0\t0"), None);
    assert_eq!(v4("eth0\t0001A8C0\t00000000\t0000\t0\t0\t0\t00FFFFFF\t0\t0\t0"), None);

    let any = "0".repeat(32);
    let v6 = |destination: &str, prefix, flags, interface| {
        Route::parse_v6(&format!(
            "{destination} {prefix} {any} 00 {any} 00000400 00000001 00000000 {flags} {interface}"
        ))
    };
    assert_eq!(v6(&any, "00", "00000003", "eth0"), Some(route("eth0", "::", 0, 1024)));
    assert_eq!(
        v6("fe800000000000000000000000000000", "40", "00000001", "eth1"),
        Some(route("eth1", "fe80::", 64, 1024))
    );
    // What every host has: an unreachable default route at lo.
    assert_eq!(v6(&any, "00", "00200200", "lo"), None);
    assert_eq!(v6(&any, "81", "00000001", "eth0"), None);
}

#[test]
fn a_session_leaves_by_the_longest_prefix() {
    let routes = [
        route("eth0", "0.0.0.0", 0, 100),
        route("wlan0", "0.0.0.0", 0, 600),
        route("eth1", "10.0.0.0", 8, 0),
        route("eth2", "10.1.0.0", 16, 0),
        route("eth3", "::", 0, 1024),
    ];
    for (connection, interface) in [
        ("192.0.2.1 50000 10.0.0.1 22", "eth0"),
        ("10.2.0.1 50000 10.0.0.1 22", "eth1"),
        ("10.1.2.3 50000 10.1.0.1 22", "eth2"),
        ("::ffff:10.1.2.3 50000 ::ffff:10.1.0.1 22", "eth2"),
        ("2001:db8::1 50000 2001:db8::2 22", "eth3"),
        ("fe80::1%eth4 50000 fe80::2%eth4 22", "eth4"),
    ] {
        assert_eq!(Peer::parse(connection).unwrap().interface(&routes), Some(interface), "{connection}");
    }
    assert_eq!(Peer::parse("192.0.2.1 1 2 3").unwrap().interface(&[]), None);
    assert_eq!(Peer::parse("localhost 1 2 3"), None);
}

proptest! {
    #[test]
    fn any_line_can_be_read(line in "[ \t0-9a-fA-F*%:.x-]{0,120}") {
        Route::parse_v4(&line);
        Route::parse_v6(&line);
        Peer::parse(&line);
    }

    #[test]
    fn a_route_leads_to_what_its_mask_covers(address: u128, destination: u128, prefix in 0u32..=128) {
        let route = Route { interface: String::new(), destination, prefix, metric: 0, is_v4: false };
        let agree = (0..prefix).all(|bit| (address ^ destination) >> (127 - bit) & 1 == 0);
        prop_assert_eq!(route.leads_to(address, false), agree);
    }
}
