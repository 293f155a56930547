use std::io::Write;
use std::time::Duration;

use super::*;

fn client() -> (Client, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    (Client::new(ours, Instant::now() + Duration::from_secs(60)), theirs)
}

#[test]
fn a_port_is_understood_however_it_is_typed_and_sent() {
    for line in ["CONNECT 52\n", "connect 52\r\n", "Connect  52 \n"] {
        let (mut client, mut other) = client();
        for byte in line.bytes() {
            assert_eq!(client.listen(), Wish::Unsaid);
            other.write_all(&[byte]).unwrap();
        }
        assert_eq!(client.listen(), Wish::Port(52), "{line:?}");
    }
}

#[test]
fn what_follows_is_left_for_the_guest() {
    let (mut client, mut other) = client();
    other.write_all(b"CONNECT 4294967295\nhello\n").unwrap();
    assert_eq!(client.listen(), Wish::Port(u32::MAX));
    let mut rest = [0; 6];
    client.into_stream().read_exact(&mut rest).unwrap();
    assert_eq!(&rest, b"hello\n");
}

#[test]
fn nonsense_is_told_at_once() {
    let long = "CONNECT 1".to_owned() + &" ".repeat(40);
    for line in [
        "\n",
        "GET / HTTP/1.1\n",
        "CONNECT\n",
        "CONNECT 4294967296\n",
        "CONNECT -1\n",
        "CONNECT 1 2\n",
        "\u{ff}\n",
        &long,
    ] {
        let (mut client, mut other) = client();
        other.write_all(line.as_bytes()).unwrap();
        assert_eq!(client.listen(), Wish::Nonsense, "{line:?}");
    }
    let (mut client, other) = client();
    drop(other);
    assert_eq!(client.listen(), Wish::Nonsense);
}
