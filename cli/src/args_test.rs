use clap::CommandFactory;

use super::*;

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn sizes_have_binary_suffixes() {
    for (text, bytes) in
        [("0", 0), ("4096", 4096), ("512M", 512 << 20), ("4g", 4 << 30), ("2GiB", 2 << 30), ("12T", 12 << 40)]
    {
        assert_eq!(parse_size(text), Some(bytes), "{text}");
    }
    for text in ["", "M", "1.5G", "-1", "1X", "16777216T", "99999999999999999999", "5é"] {
        assert_eq!(parse_size(text), None, "{text}");
    }
}

#[test]
fn every_unreadable_value_is_reported() {
    let cli = Cli::parse_from([
        "vmm",
        "run",
        "--memory",
        "lots",
        "--cpus",
        "many",
        "--vfio",
        "nvme0",
        "--vfio",
        "01:00.0",
        "--pcie-ports",
        "256",
        "--grace",
        "a while",
    ]);
    let Some(Command::Run(args)) = cli.command else { panic!() };
    let mut problems = Problems::default();
    let values = args.values(&mut problems);
    assert_eq!(problems.0.len(), 5);
    assert_eq!(problems.exit_code(), 2);
    assert_eq!(values.vfio.addresses().len(), 1);
}

#[test]
fn durations_have_units() {
    for (text, ms) in [("10s", 10_000), ("10", 10_000), ("500ms", 500), ("2m", 120_000), ("0s", 0)] {
        assert_eq!(parse_duration(text), Some(Duration::from_millis(ms)), "{text}");
    }
    for text in ["", "s", "1h", "-1s", "1.5s", "99999999999999999999s", "18446744073709551615s"] {
        assert_eq!(parse_duration(text), None, "{text}");
    }
}

#[test]
fn pin_flags_become_options() {
    let cli = Cli::parse_from([
        "vmm",
        "check",
        "--pin",
        "--memory",
        "1G",
        "--prefault",
        "populate",
        "--pin-verify",
        "off",
        "--pin-deadline",
        "250ms",
    ]);
    let Some(Command::Check(args)) = cli.command else { panic!() };
    let mut problems = Problems::default();
    let options = args.pinning.options(&mut problems);
    assert!(problems.0.is_empty() && options.populate && !options.verify);
    assert_eq!(options.deadline, Duration::from_millis(250));
    assert!(Cli::try_parse_from(["vmm", "check", "--contents"]).is_err());
}

#[test]
fn defaults_can_be_read() {
    assert_eq!(parse_size(MEMORY), Some(512 << 20));
    assert_eq!(default_grace(), Duration::from_secs(30));
    let mut problems = Problems::default();
    let typed = Cli::parse_from(["vmm", "run"]);
    let Some(Command::Run(typed)) = typed.command else { panic!() };
    let (typed, default) = (typed.pinning.options(&mut problems), PinArgs::default().options(&mut problems));
    assert_eq!(
        (typed.deadline, typed.populate, typed.verify),
        (default.deadline, default.populate, default.verify)
    );
    assert!(problems.0.is_empty());
}

#[test]
fn a_socket_can_stand_alone() {
    assert!(Cli::try_parse_from(["vmm"]).is_err());
    let cli = Cli::parse_from(["vmm", "--api-socket", "/a", "-v"]);
    assert!(cli.command.is_none() && cli.api_socket.as_deref() == Some("/a") && cli.verbose == 1);
    let cli = Cli::parse_from(["vmm", "ctl", "-s", "/a", "power-button", "--wait"]);
    assert!(matches!(cli.command, Some(Command::Ctl(_))));
}
