use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::net::UnixListener;
use std::thread;

use super::*;

/// On a thread of its own, which stays confined.
fn confined<T: Send>(reach: &Reach, does: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let confined = scope.spawn(|| {
            rustix::thread::set_no_new_privs(true).unwrap();
            reach.confine().unwrap();
            does()
        });
        confined.join().unwrap()
    })
}

#[test]
fn what_is_listed_is_reached_as_it_is_listed_and_nothing_else() {
    let place = std::env::temp_dir().join(format!("reach-{}", std::process::id()));
    for directory in ["read", "made", "other", "sockets", "reports"] {
        fs::create_dir_all(place.join(directory)).unwrap();
        fs::write(place.join(directory).join("file"), "text").unwrap();
    }
    let at = |name: &str| place.join(name);
    let reach = Reach::nothing()
        .and(at("read"), Use::Read)
        .and(at("made"), Use::Make)
        .and(at("not there"), Use::Write)
        .and(at("own"), Use::Own)
        .and(at("log"), Use::Append)
        .and(at("sockets"), Use::Bind)
        .and(at("reports"), Use::Replace)
        .and_where(&at("other/file"), Use::Remove);
    let denied = |done: std::io::Result<()>| done.unwrap_err().kind() == ErrorKind::PermissionDenied;
    confined(&reach, || {
        assert_eq!(fs::read_to_string(at("read/file")).unwrap(), "text");
        assert!(denied(fs::write(at("read/file"), "other text")));
        assert!(denied(fs::write(at("read/new"), "text")));
        fs::write(at("made/new"), "text").unwrap();
        fs::rename(at("made/new"), at("made/file")).unwrap();
        assert!(denied(fs::read(at("other/file")).map(drop)));
        fs::remove_file(at("other/file")).unwrap();
        fs::write(at("own/file"), "text").unwrap();
        OpenOptions::new().append(true).open(at("log")).unwrap().write_all(b"text").unwrap();
        assert!(denied(fs::read(at("log")).map(drop)));
        drop(UnixListener::bind(at("sockets/socket")).unwrap());
        fs::remove_file(at("sockets/socket")).unwrap();
        assert!(denied(fs::read(at("sockets/file")).map(drop)));
        assert!(denied(fs::write(at("sockets/file"), "other text")));
        fs::write(at("reports/new"), "text").unwrap();
        fs::rename(at("reports/new"), at("reports/file")).unwrap();
        assert!(denied(fs::read(at("reports/file")).map(drop)));
        assert!(denied(fs::read_dir("/").map(drop)));
        assert!(fs::read(at("not there")).is_err());
    });
    // Others are as free as before.
    assert_eq!(fs::read_to_string(at("read/file")).unwrap(), "text");
    fs::remove_dir_all(place).unwrap();
}
