use super::*;
use crate::grammar::{self, flag};

fn read(text: &str) -> Sandbox {
    let reading = grammar::read::<Sandbox>(&[flag::options("--sandbox", text).unwrap()]);
    assert!(reading.problems.is_empty(), "{text}: {:?}", reading.problems);
    reading.value
}

#[test]
fn a_word_is_enough() {
    assert_eq!(read("on"), Sandbox::default());
    assert_eq!(read("off").mode, Mode::Off);
    let all = read("on,user=vmm:kvm,chroot=/srv/vmm,allow=[/images,/kernels]");
    assert_eq!(all.user.as_deref(), Some("vmm:kvm"));
    assert_eq!(all.chroot.as_deref(), Some(Path::new("/srv/vmm")));
    assert_eq!(all.allow, [PathBuf::from("/images"), PathBuf::from("/kernels")]);
    assert_eq!(read("allow=/images").allow, [PathBuf::from("/images")]);
}

#[test]
fn off_is_off() {
    let text = |sandbox: &Sandbox| sandbox.arm(Reach::nothing()).unwrap_err().0[0].what.to_string();
    assert_eq!(text(&read("off,user=vmm")), "--sandbox off goes with nothing else");
    let nobody = text(&read("user=no-such-user"));
    assert_eq!(nobody, "cannot tell whom --sandbox means by user=no-such-user");
}

#[test]
fn who_has_clients_settles_for_nothing_less() {
    let config = Config { vsock: None, ..Config::default() };
    assert_eq!(config.settled(true), None);
    let looks = Reach::nothing().and("/proc", Use::Read).and("/sys", Use::Read);
    assert_eq!(config.settled(false), Some(looks));
}
