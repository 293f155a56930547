use super::*;
use crate::grammar::{self, file};

#[test]
fn an_empty_file_is_what_nobody_has_said() {
    let empty = file::parse(std::path::Path::new("f"), String::new()).unwrap();
    let reading = grammar::read::<Config>(&[empty]);
    assert!(reading.problems.is_empty() && reading.origins.is_empty());
    assert_eq!(format!("{:?}", reading.value), format!("{:?}", Config::default()));
}

#[test]
fn the_schema_in_docs_is_that_of_the_types() {
    let kept = include_str!("../../../docs/config.schema.json");
    assert!(kept == schema_text(), "cargo run -- schema > docs/config.schema.json");
}

#[test]
fn there_may_be_no_initrd_and_a_file_may_be_called_none() {
    let initrd = |text: Option<&str>| Config { initrd: text.map(PathBuf::from), ..Config::default() };
    assert_eq!(initrd(None).initrd(), Initrd::BuiltIn);
    assert_eq!(initrd(Some("none")).initrd(), Initrd::None);
    assert_eq!(initrd(Some("./none")).initrd(), Initrd::File(Path::new("./none")));
}
