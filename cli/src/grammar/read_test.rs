use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::*;
use crate::grammar::types::{Duration, Size};
use crate::grammar::{Table, file, flag};

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct Machine {
    name: String,
    memory: Memory,
    disk: Vec<Disk>,
    console: Option<Console>,
    grace: Duration,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct Memory {
    size: Size,
    huge_pages: bool,
    nodes: Vec<u8>,
}

impl Default for Memory {
    fn default() -> Self {
        Self { size: Size(512 << 20), huge_pages: false, nodes: Vec::new() }
    }
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Disk {
    path: PathBuf,
    #[serde(default)]
    ro: bool,
    format: Option<Format>,
    #[serde(default)]
    rate: Rate,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Format {
    Raw,
    Qcow2,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct Rate {
    bytes: Option<Size>,
    operations: Option<i32>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Console {
    Off,
    File(PathBuf),
}

/// Flags as they are typed: disks in a list, the rest as it is.
fn flags(typed: &[(&str, &str)]) -> Value {
    let mut table = Table::default();
    for (name, text) in typed {
        let flag = format!("--{name}");
        let value = match *name {
            "name" | "grace" => flag::text(&flag, text),
            _ => flag::options(&flag, text).unwrap(),
        };
        match table.keys.iter_mut().find(|(there, _)| there == name) {
            Some((_, Value { form: Form::List(list), .. })) => list.push(value),
            _ if *name == "disk" => {
                let list = Value { origin: value.origin.clone(), form: Form::List(vec![value]) };
                table.keys.push((name.to_string(), list));
            }
            _ => table.keys.push((name.to_string(), value)),
        }
    }
    Value { form: Form::Table(table), origin: Origin::Flag { flag: "".into(), text: "".into() } }
}

fn toml(text: &str) -> Value {
    file::parse(Path::new("vm.toml"), text.to_owned()).unwrap()
}

/// What is reported, with its remedy.
fn said(layers: &[Value]) -> Vec<String> {
    let problems = read::<Machine>(layers).problems;
    problems.iter().map(|error| crate::report::text("error", error)).collect()
}

#[test]
fn flags_and_files_say_the_same() {
    let typed = flags(&[
        ("name", "a,b=c"),
        ("memory", "4G,huge-pages,nodes=[0,2]"),
        ("disk", "root.qcow2,format=qcow2,rate.bytes=100M,rate.operations=-5"),
        ("disk", "path=\"a,b\",ro=yes,rate={bytes=1}"),
        ("console", "file=/tmp/log"),
        ("grace", "500ms"),
    ]);
    let written = toml(
        r#"
        name = "a,b=c"
        grace = "500ms"
        console.file = "/tmp/log"
        [memory]
        size = "4G"
        huge-pages = true
        nodes = [0, 0x2]
        [[disk]]
        path = "root.qcow2"
        format = "qcow2"
        rate.bytes = "100M"
        rate.operations = -5
        [[disk]]
        path = "a,b"
        ro = true
        rate = { bytes = 1 }
        "#,
    );
    let (typed, written) = (read::<Machine>(&[typed]), read::<Machine>(&[written]));
    assert!(typed.problems.is_empty() && written.problems.is_empty());
    assert_eq!(typed.value, written.value);
    let Machine { name, memory, disk, console, grace } = typed.value;
    assert_eq!((name.as_str(), grace.0.as_millis()), ("a,b=c", 500));
    assert_eq!(memory, Memory { size: Size(4 << 30), huge_pages: true, nodes: vec![0, 2] });
    assert_eq!(console, Some(Console::File("/tmp/log".into())));
    let [root, other] = disk.as_slice() else { panic!() };
    assert_eq!((root.path.as_path(), &root.format), (Path::new("root.qcow2"), &Some(Format::Qcow2)));
    assert_eq!(root.rate, Rate { bytes: Some(Size(100 << 20)), operations: Some(-5) });
    assert_eq!((other.path.as_path(), other.ro), (Path::new("a,b"), true));
}

#[test]
fn a_single_value_stands_for_a_list_and_for_the_first_key() {
    let machine = read::<Machine>(&[toml("memory = 4096\ndisk = ['a', 'b']\nconsole = 'off'")]).value;
    assert_eq!(machine.memory.size, Size(4096));
    assert_eq!(machine.console, Some(Console::Off));
    assert_eq!(machine.disk.len(), 2);
    let machine = read::<Machine>(&[toml("disk = 'a'\nmemory.nodes = 3")]).value;
    assert_eq!((machine.disk.len(), machine.memory.nodes), (1, vec![3]));
}

#[test]
fn flags_lie_over_the_file() {
    let written = toml("name = 'file'\n[memory]\nsize = '1G'\nhuge-pages = true\n[[disk]]\npath = 'a'");
    let typed = flags(&[("memory", "2G,nodes=[1]"), ("disk", "b,ro"), ("console", "off")]);
    let reading = read::<Machine>(&[written, typed]);
    assert_eq!(reading.value.name, "file");
    assert_eq!(reading.value.memory, Memory { size: Size(2 << 30), huge_pages: true, nodes: vec![1] });
    let paths: Vec<_> =
        reading.value.disk.iter().map(|disk| (disk.path.to_str().unwrap(), disk.ro)).collect();
    assert_eq!(paths, [("a", false), ("b", true)]);
    let origin = |path: &str| match reading.origins.get(path) {
        Some(Origin::Flag { flag, .. }) => flag.to_string(),
        Some(Origin::File { file, at }) => format!("line {}", file.find(*at).0),
        None => "default".to_owned(),
    };
    let paths = ["name", "memory.size", "memory.huge-pages", "disk[0].path", "disk[1].path", "grace"];
    assert_eq!(paths.map(origin), ["line 1", "--memory", "line 4", "line 6", "--disk", "default"]);
}

#[test]
fn all_that_cannot_be_read_is_reported_and_the_rest_is_read() {
    let typed = flags(&[
        ("memory", "lots,hugepages,nodes=[1,256,x]"),
        ("grace", "a while"),
        ("disk", "sieze=3,format=vmdk"),
        ("disk", "b,ro=maybe,rate.byte=1"),
        ("disk", "c"),
        ("consle", "off"),
    ]);
    assert_eq!(
        said(std::slice::from_ref(&typed)),
        [
            "error: --consle `off`: there is no key `consle`\n   help: did you mean `console`? its keys are name, memory, disk, console and grace\n",
            "error: --memory `lots,hugepages,nodes=[1,256,x]`: there is no key `hugepages`\n   help: did you mean `huge-pages`? its keys are size, huge-pages and nodes\n",
            "error: --memory `lots,hugepages,nodes=[1,256,x]`: size `lots` is not a size\n   help: give a number of bytes, or a number with K, M, G or T, as in 512M\n",
            "error: --memory `lots,hugepages,nodes=[1,256,x]`: nodes `256` is not a whole number from 0 to 255\n   help: give a whole number from 0 to 255\n",
            "error: --memory `lots,hugepages,nodes=[1,256,x]`: nodes `x` is not a whole number from 0 to 255\n   help: give a whole number from 0 to 255\n",
            "error: --grace `a while` is not a duration\n   help: give a whole number with us, ms, s or m, as in 10s\n",
            "error: --disk `sieze=3,format=vmdk`: there is no key `sieze`\n   help: its keys are path, ro, format and rate\n",
            "error: --disk `sieze=3,format=vmdk`: format cannot be `vmdk`\n   help: its values are raw and qcow2\n",
            "error: --disk `sieze=3,format=vmdk`: `path` is missing\n   help: give it as in path=...\n",
            "error: --disk `b,ro=maybe,rate.byte=1`: ro `maybe` is not true or false\n   help: give true or false, or the key alone\n",
            "error: --disk `b,ro=maybe,rate.byte=1`: there is no key `byte`\n   help: did you mean `bytes`? its keys are bytes and operations\n",
        ]
    );
    let machine = read::<Machine>(&[typed]).value;
    assert_eq!(machine.memory, Memory { nodes: vec![1], ..Memory::default() });
    assert_eq!(machine.disk.len(), 1, "only what is wholly right");
}

#[test]
fn what_a_file_says_wrong_has_its_line_and_column() {
    let written = toml(
        "memmory = 1\n[memory]\nsize = 1.5\n  huge-pages = 'maybe'\n\n[[disk]]\nro = true\n[[disk]]\npath = ['a']\nformat = {raw = 1}\n[console]\nfile = 'a'\nx = 1\n",
    );
    assert_eq!(
        said(&[written]),
        [
            "error: vm.toml:1:1: there is no key `memmory`\n   help: did you mean `memory`? its keys are name, memory, disk, console and grace\n",
            "error: vm.toml:3:1: size `1.5` is not a size\n   help: give a number of bytes, or a number with K, M, G or T, as in 512M\n",
            "error: vm.toml:4:3: huge-pages `maybe` is not true or false\n   help: give true or false, or the key alone\n",
            "error: vm.toml:6:1: `path` is missing\n   help: give it as in path=...\n",
            "error: vm.toml:9:1: path: expected path string, found a list\n   help: see `vmm run --help`\n",
            "error: vm.toml:10:1: format: `raw` takes no value\n   help: see `vmm run --help`\n",
            "error: vm.toml:11:2: console: one of off, file is expected\n   help: see `vmm run --help`\n",
        ]
    );
}

#[test]
fn a_key_without_a_value_is_true_and_nothing_else() {
    assert_eq!(
        said(&[flags(&[("memory", "huge-pages=off,size"), ("console", "file"), ("disk", "a,path=b")])]),
        [
            "error: --memory `huge-pages=off,size`: `size` has no value\n   help: give a size: size=...\n",
            "error: --console `file`: `file` has no value\n   help: give it as in file=...\n",
            "error: --disk `a,path=b`: `path` is given twice\n   help: each key can have one value\n",
        ]
    );
}

#[test]
fn a_file_full_of_mistakes_is_refused_quickly() {
    let unknown: String = (0..5_000).map(|n| format!("k{n} = 1\n")).collect();
    let wrong = format!("memory.nodes = [{}]", "'x',".repeat(10_000));
    for text in [unknown, wrong] {
        assert_eq!(read::<Machine>(&[toml(&text)]).problems.len(), crate::grammar::MOST);
    }
}
