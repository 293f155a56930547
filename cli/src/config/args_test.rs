use clap::Parser;

use super::*;
use crate::config::{PinRootHelp, PinVerify, Prefault};
use crate::grammar::types::Size;

#[derive(Debug, Parser)]
struct Typed {
    #[command(flatten)]
    machine: MachineArgs,
}

fn read(typed: &[&str]) -> (Config, Vec<String>) {
    let typed = Typed::parse_from([&["vmm"], typed].concat());
    let mut problems = Problems::default();
    let config = typed.machine.read(&mut problems).value;
    (config, problems.0.iter().map(|problem| problem.what.to_string()).collect())
}

#[test]
fn flags_become_options() {
    let (config, problems) = read(&[
        "--memory",
        "1G",
        "--cmdline",
        "console=ttyS0,115200 a=\"b\"",
        "--prefault=populate",
        "--pin-verify",
        "off",
        "--pin-deadline",
        "250ms",
        "--pin-root-help",
        "compact,split",
        "--pin-root-help",
        "split",
        "--debug-exit",
        "--vfio",
        "01:00.0,port",
        "--vfio",
        "02:00.0",
    ]);
    assert_eq!(problems, [""; 0]);
    assert_eq!((config.memory, config.cpus, config.debug_exit), (Size(1 << 30), 1, true));
    assert_eq!(config.cmdline, "console=ttyS0,115200 a=\"b\"");
    assert_eq!((config.prefault, config.pin_verify), (Some(Prefault::Populate), PinVerify::Off));
    assert_eq!(config.pin_root_help, [PinRootHelp::Compact, PinRootHelp::Split, PinRootHelp::Split]);
    let ports: Vec<bool> = config.vfio.iter().map(|device| device.port).collect();
    assert_eq!(ports, [true, false]);
    let options = config.pin_options(&mut Problems::default());
    assert!(options.populate && !options.verify && options.deadline.as_millis() == 250);
}

#[test]
fn every_unreadable_value_is_reported() {
    let (config, said) = read(&[
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
        "--debug-exit=perhaps",
        "--pin-root-help",
        "drop",
        "--vfio",
        "02:00.0,",
    ]);
    assert_eq!(
        said,
        [
            "--vfio `02:00.0,`: there is nothing between two commas, or after the last",
            "--memory `lots` is not a size",
            "--cpus `many` is not a whole number from 0 to 4294967295",
            "--vfio `nvme0` is not a PCI address",
            "--pcie-ports `256` is not a whole number from 0 to 255",
            "--pin-root-help cannot be `drop`",
            "--grace `a while` is not a duration",
            "--debug-exit `perhaps` is not true or false",
        ]
    );
    assert_eq!(config.vfio.len(), 1);
    assert_eq!(config.memory, Config::default().memory);
}

#[test]
fn help_is_made_from_the_types() {
    let mut command = documented(MachineArgs::augment_args(Command::new("vmm"))).term_width(200);
    let help = command.render_long_help().to_string();
    for line in [
        "--kernel <FILE>",
        "RAM, in bytes or with a suffix K, M, G or T (powers of 1024) [default: 512M]",
        "--vfio <BDF[,KEY=VALUE]...>",
        "  device=BDF: Its address on the host, as `lspci -D` prints it",
        "  backend=iommufd|container: Insist on one of the kernel's interfaces",
        "  port: Put it behind a PCIe root port, where it can be unplugged",
        "--iommufd <fd=N>",
        "--pin-root-help <compact|split,...>",
        "--pin-verify <off|census>",
        "[default: census]",
    ] {
        assert!(help.contains(line), "{line}\n{help}");
    }
}

#[test]
fn flags_go_over_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("vm.toml");
    std::fs::write(&path, "memory = \"1G\"\ncpus = 4\nvfio = [\"01:00.0\"]\n").unwrap();
    let path = path.to_str().unwrap();
    let (config, problems) = read(&["--config", path, "--cpus", "2", "--vfio", "02:00.0"]);
    assert_eq!(problems, [""; 0]);
    assert_eq!((config.memory, config.cpus, config.vfio.len()), (Size(1 << 30), 2, 2));
    let (config, problems) = read(&["--config", "/nonexistent", "--cpus", "2"]);
    assert_eq!((problems, config.cpus), (vec!["cannot read --config /nonexistent".to_owned()], 2));
}
