use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream;

use super::*;

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn refused(path: &Path) -> String {
    Listener::at(path).unwrap_err().to_string()
}

#[test]
fn only_the_owner_may_connect_and_the_path_goes_with_the_socket() {
    let directory = directory();
    let path = directory.path().join("api.sock");
    let socket = Listener::at(&path).unwrap();
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
    let _socket = Listener::at(&path).unwrap();
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
    let socket = Listener::at(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "new").unwrap();
    drop(socket);
    assert!(path.exists());
}
