use super::*;

fn port(name: Option<&str>, to: PortTarget) -> PortSpec {
    PortSpec { name: name.map(str::to_owned), to }
}

fn problems(ports: &[PortSpec]) -> Vec<String> {
    let mut problems = Problems::default();
    validate(ports, &mut problems);
    problems.0.iter().map(|problem| problem.what.to_string()).collect()
}

#[test]
fn names_are_plain_and_each_is_another() {
    let named = |name: &str| port(Some(name), PortTarget::Socket("/s".into()));
    let unnamed = port(None, PortTarget::Socket("/s".into()));
    assert_eq!(
        problems(&[named("org.qemu.guest_agent.0"), named("b"), unnamed.clone(), unnamed.clone()]),
        [""; 0]
    );
    assert_eq!(problems(&[named("a"), named("b"), named("a")]), ["two ports of --console are called a"]);
    let long = "x".repeat(LONGEST_NAME + 1);
    for wrong in ["", "a/b", "a b", "\u{e9}", &long] {
        assert_eq!(
            problems(&[named(wrong)]),
            [format!("--console name={wrong} cannot be the name of a port")]
        );
    }
    assert_eq!(problems(&vec![unnamed.clone(); MOST_PORTS]), [""; 0]);
    assert_eq!(problems(&vec![unnamed; MOST_PORTS + 1]).len(), 1);
}

#[test]
fn what_is_made_for_ports_goes_with_the_device() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    // A link that was left behind is replaced.
    std::os::unix::fs::symlink("/dev/pts/987654", at("pty")).unwrap();
    let ports = [
        port(None, PortTarget::Pty(at("pty"))),
        port(Some("a"), PortTarget::Socket(at("socket"))),
        port(Some("b"), PortTarget::File(at("file"))),
    ];
    let mut all = Problems::default();
    let console = open(&ports, &mut all).unwrap();
    assert!(all.0.is_empty());
    assert_ne!(at("pty").read_link().unwrap(), Path::new("/dev/pts/987654"));
    assert!(at("socket").exists() && at("file").exists());
    drop(console);
    assert!(at("pty").symlink_metadata().is_err() && !at("socket").exists() && at("file").exists());
}

#[test]
fn what_is_there_already_stays() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mine");
    std::fs::write(&path, "precious").unwrap();
    for to in [PortTarget::Pty(path.clone()), PortTarget::Socket(path.clone())] {
        let mut problems = Problems::default();
        assert!(open(&[port(None, to)], &mut problems).is_none());
        assert_eq!(problems.0.len(), 1);
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    // Nor is a link followed or replaced that leads elsewhere.
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let mut problems = Problems::default();
    assert!(open(&[port(None, PortTarget::Pty(link.clone()))], &mut problems).is_none());
    assert_eq!(link.read_link().unwrap(), path);
}
