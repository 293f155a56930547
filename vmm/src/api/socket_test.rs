use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream;

use super::*;

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn refused(path: &Path) -> String {
    ApiListener::at(path).unwrap_err().to_string()
}

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
fn only_the_owner_may_connect_and_the_path_goes_with_the_socket() {
    let directory = directory();
    let path = directory.path().join("api.sock");
    let socket = ApiListener::at(&path).unwrap();
    assert_eq!(path.symlink_metadata().unwrap().permissions().mode() & 0o777, 0o600);
    UnixStream::connect(&path).unwrap();
    drop(socket);
    assert!(!path.exists());
}

#[test]
fn what_a_killed_process_left_is_taken_over() {
    let directory = directory();
    let path = directory.path().join("api.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let _socket = ApiListener::at(&path).unwrap();
    UnixStream::connect(&path).unwrap();
}

#[test]
fn what_is_somebody_elses_stays() {
    let directory = directory();
    let at = |name: &str| directory.path().join(name);
    let other = UnixListener::bind(at("other")).unwrap();
    assert!(refused(&at("other")).ends_with("another process does"));
    drop(other);
    symlink(at("nowhere"), at("dangling")).unwrap();
    symlink(at("other"), at("link")).unwrap();
    std::fs::write(at("file"), "precious").unwrap();
    for (name, what) in [
        ("dangling", "a symbolic link is there"),
        ("link", "a symbolic link is there"),
        ("file", "a file that is not a socket is there"),
        ("", "a directory is there"),
    ] {
        assert!(refused(&at(name)).ends_with(what), "{name}");
    }
    assert!(!at("nowhere").exists() && at("other").exists());
    assert_eq!(std::fs::read(at("file")).unwrap(), b"precious");
    assert!(refused(&at(&"x".repeat(120))).starts_with("cannot listen at "));
}

#[test]
fn a_path_that_became_another_file_is_not_removed() {
    let directory = directory();
    let path = directory.path().join("api.sock");
    let socket = ApiListener::at(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "new").unwrap();
    drop(socket);
    assert!(path.exists());
}

#[test]
fn a_listening_socket_can_be_handed_in() {
    let directory = directory();
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
