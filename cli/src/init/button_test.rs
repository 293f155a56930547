use super::*;

fn attribute_bytes(kind: u16, payload: &[u8]) -> Vec<u8> {
    let length = 4 + payload.len();
    let mut bytes = (length as u16).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(payload);
    bytes.resize(length.next_multiple_of(4), 0);
    bytes
}

fn message(attributes: &[u8]) -> Vec<u8> {
    [&[0; HEADERS][..], attributes].concat()
}

#[test]
fn the_request_names_the_family() {
    let request = family_request();
    assert_eq!(request.len(), u32::from_ne_bytes(request[..4].try_into().unwrap()) as usize);
    assert_eq!(attribute(&request[HEADERS..], |kind, _| kind == CTRL_ATTR_FAMILY_NAME), Some(FAMILY));
}

#[test]
fn the_group_is_found_behind_other_attributes() {
    let group = [
        attribute_bytes(1, b"acpi_mc_group\0"),
        attribute_bytes(CTRL_ATTR_MCAST_GRP_ID, &7_u32.to_ne_bytes()),
    ];
    let groups = attribute_bytes(1, &group.concat());
    // The kernel marks nested attributes with a flag in their type.
    let answer = [attribute_bytes(1, &[0x15, 0]), attribute_bytes(CTRL_ATTR_MCAST_GROUPS | 0x8000, &groups)];
    assert_eq!(group_of(&message(&answer.concat())), Some(7));
    assert_eq!(group_of(&message(&attribute_bytes(1, &[0x15, 0]))), None);
}

#[test]
fn only_the_power_button_ends_the_guest() {
    let event = |class: &[u8]| {
        let mut payload = class.to_vec();
        payload.resize(44, 0);
        message(&attribute_bytes(1, &payload))
    };
    assert!(is_button(&event(b"button/power")));
    assert!(!is_button(&event(b"button/lid")));
}

#[test]
fn garbage_is_nothing() {
    for length in 0..64 {
        for byte in [0, 1, 4, 0xff] {
            let bytes = vec![byte; length];
            assert!(!is_button(&bytes) && group_of(&bytes).is_none());
        }
    }
}
