use super::*;
use crate::problem::{Problem, Unexpected};

#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("cannot open the door")]
#[diagnostic(help("turn the key"))]
struct Door(#[source] io::Error);

fn door(class: Class, errno: i32) -> (Class, String) {
    let problem = Problem::new(class, Door(io::Error::from_raw_os_error(errno)));
    assert_eq!(problem.what.to_string(), "cannot open the door");
    assert!(problem.what.source().is_some());
    (problem.class, problem.what.help().unwrap().to_string())
}

#[test]
fn a_shortage_has_its_own_remedy_and_is_the_hosts() {
    for class in [Class::Usage, Class::Host, Class::Internal] {
        for (errno, remedy) in [
            (libc::EMFILE, "`ulimit -n`"),
            (libc::ENFILE, "fs.file-max"),
            (libc::ENOMEM, "the kernel had no memory"),
        ] {
            let (class, help) = door(class, errno);
            assert_eq!(class, Class::Host);
            assert!(help.contains(remedy), "{help}");
        }
    }
    for class in [Class::Internal, Class::Guest] {
        let (class, help) = door(class, libc::EAGAIN);
        assert!(class == Class::Host && help.contains("`ulimit -u`"), "{help}");
    }
}

#[test]
fn what_knows_better_keeps_its_remedy() {
    let key = |class| (class, "turn the key".to_owned());
    assert_eq!(door(Class::Host, libc::EAGAIN), key(Class::Host));
    assert_eq!(door(Class::Memory, libc::ENOMEM), key(Class::Memory));
    assert_eq!(door(Class::Usage, libc::ENOENT), key(Class::Usage));
    let (class, help) = door(Class::Memory, libc::EMFILE);
    assert!(class == Class::Memory && help.contains("`ulimit -n`"), "{help}");
}

#[test]
fn it_is_found_behind_other_errors() {
    let inner = io::Error::other(Door(io::Error::from_raw_os_error(libc::EMFILE)));
    let problems = Unexpected::during("cannot do it")(inner);
    assert_eq!(problems.exit_code(), 3);
    let kvm = Unexpected::during("cannot do it")(kvm_ioctls::Error::new(libc::ENOMEM));
    assert_eq!(kvm.exit_code(), 3);
    let other = Unexpected::during("cannot do it")(kvm_ioctls::Error::new(libc::EINVAL));
    assert_eq!(other.exit_code(), 5);
}
