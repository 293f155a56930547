use super::*;

#[test]
fn parses_what_it_prints() {
    for text in ["0000:01:00.0", "ffff:ff:1f.7", "0001:00:02.3"] {
        assert_eq!(text.parse::<PciAddress>().unwrap().to_string(), text);
    }
    assert_eq!("01:00.0".parse::<PciAddress>().unwrap().to_string(), "0000:01:00.0");
}

#[test]
fn refuses_what_is_none() {
    for text in
        ["", "01:00", "0000:01:20.0", "0000:01:00.8", "10000:01:00.0", "0000:+1:00.0", "::.", "0000:01:00.0 "]
    {
        assert!(text.parse::<PciAddress>().is_err(), "{text}");
    }
}
