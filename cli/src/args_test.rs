use vmm::Problems;

use super::*;

#[test]
fn the_command_line_is_consistent() {
    Cli::documented().debug_assert();
}

#[test]
fn contents_are_of_pinned_memory() {
    assert!(Cli::try_parse_from(["vmm", "check", "--contents"]).is_err());
    assert!(Cli::try_parse_from(["vmm", "check", "--contents", "--pin"]).is_ok());
}

#[test]
fn a_socket_can_stand_alone() {
    assert!(Cli::try_parse_from(["vmm"]).is_err());
    let cli = Cli::parse_from(["vmm", "--api-socket", "/a", "-v"]);
    assert!(cli.command.is_none() && cli.api_socket.as_deref() == Some("/a") && cli.verbose == 1);
    let cli = Cli::parse_from(["vmm", "ctl", "-s", "/a", "power-button", "--wait"]);
    assert!(matches!(cli.command, Some(Command::Ctl(_))));
    let cli = Cli::parse_from(["vmm", "run", "--api-socket", "/a"]);
    let Some(Command::Run(args)) = cli.command else { panic!() };
    assert_eq!(args.machine.read(&mut Problems::default()).value.api_socket.as_deref(), Some("/a"));
}
