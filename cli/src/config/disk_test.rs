use std::path::Path;

use devices::rate::{Limits, Rate};

use super::*;
use crate::config::Config;
use crate::grammar::{self, file, flag};

fn read(flag: &str) -> (Config, Vec<String>) {
    let disk = flag::options("--disk", flag).unwrap();
    let list = grammar::Value { origin: disk.origin.clone(), form: grammar::Form::List(vec![disk]) };
    let table = grammar::Table { word: None, keys: vec![("disk".to_owned(), list.clone())] };
    let reading = grammar::read(&[grammar::Value { form: grammar::Form::Table(table), origin: list.origin }]);
    (reading.value, reading.problems.iter().map(ToString::to_string).collect())
}

fn spec(flag: &str) -> DiskSpec {
    let (config, problems) = read(flag);
    assert_eq!(problems, [""; 0]);
    let mut problems = Problems::default();
    let spec = config.disk[0].spec(&mut problems).unwrap();
    assert_eq!((problems.0.len(), config.disk[0].served(&mut problems)), (0, None));
    spec
}

#[test]
fn a_path_alone_is_a_locked_disk_that_can_be_written() {
    let disk = spec("root.qcow2");
    assert_eq!(disk.options, DiskOptions::new("root.qcow2"));
    assert_eq!((disk.serial, disk.queues, disk.packed), (String::new(), None, false));
    assert_eq!(disk.limits, Limits::default());
}

#[test]
fn every_key_has_its_meaning() {
    let disk = spec(
        "path=a.img,ro,format=raw,direct,backing,lock=off,serial=s1,queues=2,packed,rate.bytes=10M,rate.ops=100,rate.ops-burst=7",
    );
    let options = DiskOptions {
        path: "a.img".into(),
        format: Some(Format::Raw),
        read_only: true,
        direct: true,
        backing: true,
        lock: false,
    };
    assert_eq!(
        (disk.options, disk.serial.as_str(), disk.queues, disk.packed),
        (options, "s1", Some(2), true)
    );
    let rate = |per_second, burst| Some(Rate { per_second, burst });
    assert_eq!(disk.limits, Limits { bytes: rate(10 << 20, 1 << 20), operations: rate(100, 7) });
}

#[test]
fn a_file_says_the_same() {
    let text = "[[disk]]\npath = \"a.img\"\nro = true\nrate.bytes = \"10M\"\n";
    let value = file::parse(Path::new("f"), text.to_owned()).unwrap();
    let reading = grammar::read::<Config>(&[value]);
    assert!(reading.problems.is_empty());
    assert_eq!(reading.value.disk, read("a.img,ro,rate.bytes=10M").0.disk);
}

#[test]
fn what_cannot_be_read_is_named() {
    let (_, problems) = read("a.img,rw,format=vmdk,queues=many");
    assert_eq!(problems.len(), 3, "{problems:?}");
    let (_, problems) = read("ro,serial=a");
    assert_eq!(problems.len(), 0, "a first word is the path");
}

#[test]
fn a_daemon_serves_a_disk_without_an_image() {
    let mut problems = Problems::default();
    let served = |text: &str, problems: &mut Problems| {
        let (config, unread) = read(text);
        assert_eq!(unread, [""; 0]);
        (config.disk[0].served(problems), config.disk[0].spec(problems).is_some())
    };
    let disk = |queues| Some(ServedDisk { socket: "/s".into(), queues });
    assert_eq!(served("vhost-user=/s", &mut problems), (disk(1), false));
    assert_eq!(served("vhost-user=/s,queues=4", &mut problems), (disk(4), false));
    assert!(problems.0.is_empty(), "{problems:?}");
    for text in ["a.img,vhost-user=/s", "vhost-user=/s,ro", "vhost-user=/s,lock=off,rate.ops=1"] {
        assert_eq!(served(text, &mut problems), (None, false));
    }
    assert_eq!(served("ro=on", &mut problems), (None, false));
    let said: Vec<String> = problems.0.iter().map(|problem| problem.what.to_string()).collect();
    let daemons = "--disk vhost-user=/s goes with `queues` alone";
    assert_eq!(said, [daemons, daemons, daemons, "--disk does not say which image"]);
}
