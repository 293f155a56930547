use std::fs::File;
use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::unix::net::UnixStream;

use super::*;

#[test]
fn places_are_read() {
    assert_eq!("/run/a.sock".parse::<ApiSocket>().unwrap(), ApiSocket::Path("/run/a.sock".into()));
    assert_eq!("path=a=b".parse::<ApiSocket>().unwrap(), ApiSocket::Path("a=b".into()));
    assert_eq!("fd=3".parse::<ApiSocket>().unwrap(), ApiSocket::Descriptor(3));
    for text in ["", "path=", "fd=", "fd=x", "fd=-1", "fd=0", "fd=2"] {
        assert!(text.parse::<ApiSocket>().is_err(), "{text}");
    }
}

#[test]
fn a_listening_socket_can_be_handed_in() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("api.sock");
    let number = UnixListener::bind(&path).unwrap().into_raw_fd();
    let socket = ApiListener::open(&ApiSocket::Descriptor(number)).unwrap();
    UnixStream::connect(&path).unwrap();
    drop(socket);
    assert!(path.exists(), "it is not ours to remove");
}

#[test]
fn other_descriptors_are_refused() {
    let (one, _other) = UnixStream::pair().unwrap();
    let file = File::open("/dev/null").unwrap();
    for (fd, why) in [
        (one.as_raw_fd(), "it does not listen"),
        (file.as_raw_fd(), "Socket operation on non-socket (os error 88)"),
        (1 << 20, "Bad file descriptor (os error 9)"),
    ] {
        let error = ApiListener::open(&ApiSocket::Descriptor(fd)).unwrap_err().to_string();
        assert_eq!(error, format!("descriptor {fd} cannot serve the API: {why}"));
    }
}
