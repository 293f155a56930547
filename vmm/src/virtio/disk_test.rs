use devices::rate::Rate;

use super::*;

fn disk(path: &str) -> DiskSpec {
    DiskSpec::new(DiskOptions::new(path))
}

#[test]
fn everything_wrong_is_found_before_images_are_opened() {
    let nothing = Some(Rate { per_second: 0, burst: 0 });
    let disk = DiskSpec {
        serial: "more than twenty bytes".to_owned(),
        queues: Some(65),
        limits: Limits { bytes: nothing, operations: None },
        ..disk("/a")
    };
    let expected = [
        DiskSpecError::Serial(disk.serial.clone()),
        DiskSpecError::Queues { path: "/a".into(), queues: 65 },
        DiskSpecError::NoRate { path: "/a".into() },
    ];
    assert_eq!(check(&disk, &[]), expected);
    assert_eq!(check(&DiskSpec { serial: "a\n".to_owned(), ..self::disk("/a") }, &[]).len(), 1);
}

#[test]
fn one_image_can_be_read_twice_but_not_written() {
    let read_only = |path| DiskSpec::new(DiskOptions { read_only: true, ..DiskOptions::new(path) });
    assert_eq!(check(&disk("/tmp/../a"), &[disk("/b"), disk("/tmp/../a")]).len(), 1);
    assert_eq!(check(&disk("/tmp"), &[read_only("/tmp/../tmp")]), [DiskSpecError::Twice("/tmp".into())]);
    assert_eq!(check(&read_only("/a"), &[read_only("/a")]), []);
}

#[test]
fn disks_are_found_by_number_and_by_path() {
    let image = |name: &str| {
        let path = std::env::temp_dir().join(format!("vmm-disk-test-{}-{name}", std::process::id()));
        std::fs::File::create(&path).unwrap().set_len(4096).unwrap();
        path
    };
    let paths = [image("a"), image("b")];
    let specs: Vec<DiskSpec> = paths.iter().map(|path| DiskSpec::new(DiskOptions::new(path))).collect();
    let disks = open(&specs, 64, &mut Problems::default());
    let disks: Vec<_> = (0..).map(id).zip(disks).collect();
    let found = |id: &str| find(&disks, id).map(|disk| disk.disk().path().to_owned());
    assert_eq!(found("_disk1").as_deref(), Some(paths[1].as_path()));
    assert_eq!(found(paths[0].to_str().unwrap()).as_deref(), Some(paths[0].as_path()));
    assert_eq!((found("_disk2"), found("_diska"), found("b")), (None, None, None));
    paths.iter().for_each(|path| std::fs::remove_file(path).unwrap());
}

#[test]
fn images_that_cannot_be_had_are_each_reported() {
    let mut problems = Problems::default();
    let disks = [disk("/nonexistent/a"), disk("/nonexistent/b"), disk("/")];
    assert!(open(&disks, 1, &mut problems).is_empty());
    assert_eq!(problems.0.len(), 3);
    assert_eq!(problems.exit_code(), Class::Usage as u8);
}
