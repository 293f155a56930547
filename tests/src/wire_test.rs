use super::*;

fn round_trip(session: u32, frame: Frame) {
    let mut port = Vec::new();
    send(&mut port, session, &frame).unwrap();
    let mut port = port.as_slice();
    assert_eq!(receive(&mut port).unwrap(), Some((session, frame)));
    assert_eq!(receive(&mut port).unwrap(), None);
}

#[test]
fn frames_survive_the_round_trip() {
    let request = ExecRequest {
        argv: vec!["sh".into(), "-c".into(), "echo ü".into()],
        env: vec![("A".into(), "b c".into())],
        terminal: Some(Size { rows: 24, columns: 80 }),
    };
    round_trip(1, Frame::Exec(request));
    round_trip(2, Frame::Stdin(vec![0, 255, 10]));
    round_trip(3, Frame::StdinEnd);
    round_trip(4, Frame::Resize(Size { rows: 1, columns: 2 }));
    round_trip(5, Frame::Kill);
    round_trip(0, Frame::Ready(Ready { release: "6.12".into(), problems: vec!["none".into()] }));
    round_trip(6, Frame::Stdout(vec![7; CHUNK]));
    round_trip(7, Frame::Stderr(Vec::new()));
    round_trip(8, Frame::Taken(70_000));
    round_trip(u32::MAX, Frame::Exit(-1));
}

#[test]
fn a_port_that_lost_its_way_is_an_error() {
    for bytes in
        [&[0, 0, 0, 0, 0][..], &[0xff; 16], &[5, 0, 0, 0, 99, 0, 0, 0, 0], &[6, 0, 0, 0, 20, 0, 0, 0, 0, 1]]
    {
        assert!(receive(&mut &bytes[..]).is_err(), "{bytes:?}");
    }
}

#[test]
fn a_frame_cut_short_is_an_error() {
    let mut port = Vec::new();
    send(&mut port, 9, &Frame::Stdout(b"hello".to_vec())).unwrap();
    port.pop();
    assert!(receive(&mut port.as_slice()).is_err());
}
