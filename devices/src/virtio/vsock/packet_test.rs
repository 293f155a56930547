use super::*;

#[test]
fn a_header_lies_in_memory_as_the_specification_has_it() {
    let header = Header {
        flags: 0x0403_0201,
        room: 0x40000,
        forwarded: 7,
        length: 0x1000,
        ..Header::to_guest(3, Ports { host: 0x8000_0001, guest: 1024 }, Op::Data)
    };
    let bytes = header.to_bytes();
    assert_eq!(bytes[..24], [2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0x80, 0, 4, 0, 0]);
    assert_eq!(bytes[24..], [0, 0x10, 0, 0, 1, 0, 5, 0, 1, 2, 3, 4, 0, 0, 4, 0, 7, 0, 0, 0]);
    assert_eq!(Header::from_bytes(&bytes), Some(header));
}

#[test]
fn what_an_operation_is_called_is_its_number() {
    (0..=u16::MAX).for_each(|number| assert_eq!(u16::from(Op::from(number)), number));
}

#[test]
fn a_reset_goes_back_where_the_packet_came_from() {
    let header = Header { kind: 9, length: 5, ..Header::to_guest(3, Ports { host: 1, guest: 2 }, Op::Data) };
    let reply = header.reset_reply();
    assert_eq!((reply.from_cid, reply.to_cid, reply.from_port, reply.to_port), (3, 2, 2, 1));
    assert_eq!((reply.op, reply.kind, reply.length), (Op::Reset, 9, 0));
}
