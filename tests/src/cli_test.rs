use super::*;

fn exec(words: &[&str]) -> ExecOptions {
    match Cli::try_parse_from([&["lab", "exec"], words].concat()).unwrap().command {
        Command::Exec(options) => options,
        _ => unreachable!(),
    }
}

#[test]
fn a_bare_command_gets_the_default_host() {
    let options = exec(&["--", "uname", "-a"]);
    assert_eq!(options.host.spec(), HostSpec::default());
    assert_eq!(options.command, ["uname", "-a"]);
    assert_eq!(options.timeout, 300);
}

#[test]
fn every_option_reaches_the_host() {
    let options = exec(&[
        "--add",
        "a",
        "b",
        "--host-kernel",
        "debian",
        "--memory",
        "2G",
        "--cpus",
        "4",
        "--aw-bits",
        "39",
        "--append",
        "cma=900M",
        "--qemu",
        "-device edu",
        "--no-bind",
        "--timeout",
        "0",
        "--",
        "true",
    ]);
    let expected = HostSpec {
        kernel: HostKernel::Debian,
        memory_mib: 2048,
        cpus: 4,
        aw_bits: 39,
        append: "cma=900M".into(),
        qemu: "-device edu".into(),
        bind: false,
        clock: Clock::Time,
        add: vec!["a".into(), "b".into()],
    };
    assert_eq!(options.host.spec(), expected);
    assert_eq!(options.timeout, 0);
}

#[test]
fn memory_is_given_in_mebibytes_or_gibibytes() {
    for (text, mib) in [("2560M", 2560), ("3G", 3072), ("1024", 1024), ("2g", 2048)] {
        assert_eq!(mebibytes(text), Ok(mib));
    }
    for text in ["", "M", "12T", "3GB", "-1M", "511M", "9999999G", "2.5G"] {
        assert!(mebibytes(text).is_err(), "{text}");
    }
}

#[test]
fn nonsense_is_refused() {
    for words in [
        &["exec"][..],
        &["exec", "--aw-bits", "57", "--", "true"],
        &["exec", "--cpus", "0", "--", "true"],
        &["fly"],
    ] {
        assert!(Cli::try_parse_from([&["lab"], words].concat()).is_err(), "{words:?}");
    }
}
