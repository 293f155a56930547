use std::fs;
use std::io::ErrorKind;
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
    for directory in ["read", "made", "other"] {
        fs::create_dir_all(place.join(directory)).unwrap();
        fs::write(place.join(directory).join("file"), "text").unwrap();
    }
    let at = |name: &str| place.join(name);
    let reach = Reach::nothing()
        .and(at("read"), Use::Read)
        .and(at("made"), Use::Make)
        .and(at("not there"), Use::Write)
        .and(at("own"), Use::Own)
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
        assert!(denied(fs::read_dir("/").map(drop)));
        assert!(fs::read(at("not there")).is_err());
    });
    // Others are as free as before.
    assert_eq!(fs::read_to_string(at("read/file")).unwrap(), "text");
    fs::remove_dir_all(place).unwrap();
}
