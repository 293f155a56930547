use std::path::Path;

use super::*;
use crate::grammar::{self, Form, Value as Written, file, flag};

const FILE: &str = "\
memory = \"1G\"
cpus = 4
pin-root-help = [\"split\"]

[[vfio]]
device = \"01:00.0\"
port = true
";

fn typed() -> Written {
    let keys = vec![
        ("cpus".to_owned(), flag::text("--cpus", "2")),
        ("cmdline".to_owned(), flag::text("--cmdline", "a=\"b\" \\")),
        ("vfio".to_owned(), flag::options("--vfio", "fd=5").unwrap()),
        ("pin-root-help".to_owned(), flag::list("--pin-root-help", "compact").unwrap()),
    ];
    let origin = flag::text("", "").origin;
    Written { form: Form::Table(grammar::Table { word: None, keys }), origin }
}

#[test]
fn every_value_has_its_origin_and_all_of_it_can_be_read_again() {
    let layers = [file::parse(Path::new("vm.toml"), FILE.to_owned()).unwrap(), typed()];
    let reading = grammar::read::<Config>(&layers);
    let found = [
        Found { key: "kernel", value: Some("/boot/vmlinuz-7.3.4".to_owned()), why: "found on the host" },
        Found { key: "initrd", value: None, why: "the built-in guest" },
        Found { key: "cpus", value: Some("9".to_owned()), why: "never, since it is given" },
    ];
    let text = text(&reading.value, &reading.origins, &found).unwrap();
    assert_eq!(
        text,
        "\
kernel = \"/boot/vmlinuz-7.3.4\"  # found on the host
# initrd: the built-in guest
cmdline = 'a=\"b\" \\'  # --cmdline
memory = \"1G\"  # vm.toml:1
cpus = 2  # --cpus
numa = []  # default
pcie-ports = 0  # default
disk = []  # default
pmem = []  # default
net = []  # default
fs = []  # default
rng = false  # default
on-reboot = \"reset\"  # default
on-exit = \"stop\"  # default
console = []  # default
pin-verify = \"census\"  # default
pin-deadline = \"10s\"  # default
pin-root-help = [\"split\", \"compact\"]  # vm.toml:3, --pin-root-help
grace = \"30s\"  # default
debug-exit = false  # default

[[vfio]]
device = \"0000:01:00.0\"  # vm.toml:6
port = true  # vm.toml:7
iommu = false  # default

[[vfio]]
fd = 5  # --vfio
port = false  # default
iommu = false  # default
"
    );
    let again = grammar::read::<Config>(&[file::parse(Path::new("f"), text.clone()).unwrap()]);
    assert!(again.problems.is_empty());
    let kernel = Some("/boot/vmlinuz-7.3.4".into());
    let expected = Config { kernel, ..reading.value };
    assert_eq!(format!("{:?}", again.value), format!("{expected:?}"));
}

#[test]
fn defaults_can_be_read_again() {
    let text = text(&Config::default(), &BTreeMap::new(), &[]).unwrap();
    assert!(text.lines().all(|line| line.ends_with("# default")), "{text}");
    let again = grammar::read::<Config>(&[file::parse(Path::new("f"), text.clone()).unwrap()]);
    assert!(again.problems.is_empty());
    assert_eq!(format!("{:?}", again.value), format!("{:?}", Config::default()));
}
