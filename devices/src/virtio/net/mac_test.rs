use super::*;

#[test]
fn addresses_are_read_and_written() {
    for text in ["02:00:5e:10:00:01", "02-00-5E-10-00-01"] {
        assert_eq!(text.parse(), Ok(MacAddress([2, 0, 0x5e, 0x10, 0, 1])));
    }
    assert_eq!(MacAddress([2, 0, 0x5e, 0x10, 0, 1]).to_string(), "02:00:5e:10:00:01");
    for text in [
        "",
        "02:00:5e:10:00",
        "02:00:5e:10:00:01:02",
        "02:00:5e:10:00:1",
        "02:00:5e:10:00:+1",
        "02:00-5e:10:00:01",
        "00:00:00:00:00:00",
        "01:00:5e:10:00:01",
        "ff:ff:ff:ff:ff:ff",
    ] {
        assert_eq!(text.parse::<MacAddress>(), Err(NoMacAddress), "{text}");
    }
}

#[test]
fn made_up_addresses_are_local_stable_and_different() {
    let one = MacAddress::made_up(["host", "tap0"]);
    assert_eq!(one, MacAddress::made_up(["host", "tap0"]));
    for other in [["host", "tap1"], ["host2", "tap0"], ["hosttap0", ""]] {
        let other = MacAddress::made_up(other);
        assert_ne!(one, other);
        assert!(other.0[0] & 3 == 2 && other.is_of_a_card());
    }
}
