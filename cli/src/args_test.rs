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
        "vmm", "run", "--memory", "lots", "--cpus", "many", "--vfio", "nvme0", "--vfio", "01:00.0",
    ]);
    let Command::Run(args) = cli.command;
    let mut problems = Problems::default();
    let values = args.values(&mut problems);
    assert_eq!(problems.0.len(), 3);
    assert_eq!(problems.exit_code(), 2);
    assert_eq!(values.vfio.len(), 1);
}
